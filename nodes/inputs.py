"""Sockets and inputs that several nodes share. A widget's default is its config's default."""

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from enum import Enum
from typing import Any

from comfy_api.latest import io

from ..pictures.masks import MaskMarks
from ..training.config import AnyConfig, LoopConfig, TrainConfig

ConceptSocket = io.Custom("CONCEPT")
SUBJECT_WORDS = [
    *("personalize", "concept", "subject", "face", "portrait", "person", "character", "identity"),
    *("likeness", "avatar", "pet", "product", "style", "lora"),
]
"""What people have in mind who look for a node that learns a concept or uses one."""

CUSTOM = "custom"
Presets = Mapping[str, Mapping[str, Any]]
HIDDEN_OF_TRAINERS = [io.Hidden.unique_id, io.Hidden.extra_pnginfo]

PLACEHOLDER_TIP = (
    "The word that will stand for the concept in prompts: a name in angle brackets, such as "
    "<my-dog>."
)


CLASS_WORD_TIP = (
    "What the subject is, such as dog. It follows the learned word wherever the placeholder stands."
)
_KINDS: dict[type, Any] = {bool: io.Boolean, int: io.Int, float: io.Float, str: io.String}


def setting(config: type[LoopConfig], name: str, tooltip: str, **options: Any) -> io.Input:
    """The input of a config's field: its type and default are the field's, enums are choices."""
    default = _default_of(config, name)
    if isinstance(default, Enum):
        return io.Combo.Input(
            name, options=type(default), default=default, tooltip=tooltip, **options
        )
    return _KINDS[type(default)].Input(name, default=default, tooltip=tooltip, **options)


def default_of(config: type[LoopConfig], name: str) -> Any:
    """Default of a config's field, as a plain JSON value."""
    default = _default_of(config, name)
    return getattr(default, "value", default)


def _default_of(config: type[LoopConfig], name: str) -> Any:
    field: Field[Any] = next(f for f in fields(config) if f.name == name)
    if field.default is MISSING:
        raise KeyError(f"{config.__name__}.{name} has no default")
    return field.default


def config_of(config: type[AnyConfig], values: Mapping[str, Any]) -> AnyConfig:
    """The config in the values of a node's inputs."""
    known = {field.name for field in fields(config)}
    return config(**{name: value for name, value in values.items() if name in known})


def lines_of(text: str) -> list[str]:
    """The lines that have something in them; one empty line when none has."""
    return [line.strip() for line in text.splitlines() if line.strip()] or [""]


def model_inputs() -> list[io.Input]:
    return [
        io.Model.Input("model", tooltip="The model to learn on. It is not changed."),
        io.Clip.Input("clip", tooltip="The CLIP of the same checkpoint. It is not changed."),
        io.Vae.Input("vae", tooltip="The VAE of the same checkpoint."),
        io.Image.Input(
            "images",
            tooltip="1 to 6 pictures of the subject, of any sizes, as a batch or a list. Each is "
            "cropped to its centre square and resized to the resolution.",
        ),
    ]


def placeholder_input(default: str = "<my-dog>") -> io.Input:
    return io.String.Input("placeholder", default=default, tooltip=PLACEHOLDER_TIP)


def class_word_input(tooltip: str = CLASS_WORD_TIP) -> io.Input:
    return io.String.Input("class_word", default="dog", tooltip=tooltip)


def mask_marks_input() -> io.Input:
    return io.Combo.Input(
        "mask_marks", options=MaskMarks, default=MaskMarks.AUTO, optional=True, advanced=True,
        tooltip="What is white in the masks. auto: the subject, unless white is along the border "
        "and not in the middle, as in the MASK that Load Image gives for a cut-out; the node says "
        "so. subject, background: always this.",
    )  # fmt: skip


def mask_marks_of(values: Mapping[str, Any]) -> MaskMarks:
    return MaskMarks(values.get("mask_marks", MaskMarks.AUTO))


def schedule_inputs(config: type[LoopConfig], rate: str = "") -> list[io.Input]:
    """rate: a sentence on the published learning rate"""
    slower = "How far a step may go. Lower it when the loss jumps."
    return [
        setting(config, "steps", "Number of training steps.", min=1, max=100000),
        setting(
            config, "batch_size",
            "Pictures a step, each with its own noise. When memory runs out, lower micro_batch.",
            min=1, max=64,
        ),
        setting(
            config, "learning_rate", f"{slower} {rate}".strip(),
            min=1e-7, max=10.0, step=1e-5, round=1e-7,
        ),
    ]  # fmt: skip


def seed_input() -> io.Input:
    return io.Int.Input(
        "train_seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=False,
        advanced=True,
        tooltip="The same seed, pictures and settings give the same concept on the same machine.",
    )  # fmt: skip


def prior_options(config: type[TrainConfig]) -> list[io.Input]:
    """Optional inputs of the methods that preserve the class."""
    return [
        io.Image.Input(
            "prior_images", optional=True,
            tooltip="Pictures of the class, such as any dogs, as a batch or a list. Not connected: "
            "the untouched model makes them.",
        ),
        setting(
            config, "prior_count", "How many pictures of the class the model makes, once: they are "
            "kept in output/personalize/prior. 50 are enough for SDXL, which takes long for each.",
            min=1, max=10000, optional=True, advanced=True,
        ),
        setting(
            config, "prior_weight",
            "How firmly the class keeps its meaning. 0: no pictures of it are needed.",
            min=0.0, max=100.0, step=0.1, round=0.001, optional=True, advanced=True,
        ),
    ]  # fmt: skip


def preset_option(presets: Presets, default: str = CUSTOM, told: str = "") -> io.Input:
    """Named values of other inputs, whose widgets the browser sets when one is chosen.

    The values travel with the schema, so that there is one place for a number.
    """
    return io.Combo.Input(
        "preset", options=[CUSTOM, *presets], default=default, optional=True,
        tooltip=told or "Sets other inputs. custom: as they are set. paper: exactly the paper's "
        "setting. The help page tells each preset's values.",
        extra_dict={"presets": {name: dict(values) for name, values in presets.items()}},
    )  # fmt: skip


def with_preset(presets: Presets, values: Mapping[str, Any]) -> dict[str, Any]:
    """A node's values with those of its chosen preset: a prompt that no browser wrote names it
    alone."""
    return {**values, **presets.get(values.get("preset", CUSTOM), {})}


def micro_batch_option(config: type[LoopConfig]) -> io.Input:
    """Comes after all other inputs of its nodes, as `rank_option`."""
    return setting(
        config, "micro_batch",
        "How many pictures of a batch go through the model at once, to save memory: the result is "
        "the same but for rounding. 0: as many as the GPU has memory for.",
        min=0, max=1024, optional=True, advanced=True,
    )  # fmt: skip


def keep_activations_option(config: type[LoopConfig]) -> io.Input:
    """The last of all inputs of its nodes, as `rank_option`."""
    return setting(
        config, "keep_activations",
        "On SDXL, which saves memory as with gradient_checkpointing in any case: do not, for less "
        "time a step. Has no effect on SD1.x and SD2.x.",
        optional=True, advanced=True,
    )  # fmt: skip


def rank_option(config: type[TrainConfig]) -> io.Input:
    """Comes after all other inputs of its nodes: saved workflows list values in their order."""
    return setting(
        config, "rank",
        "Of the changes of the model's keys and values. 0: whole weights, as in the paper; 32: "
        "less memory and a small file. -1: what the base model asks for, 0 for SD1.x and SD2.x, 32 "
        "for SDXL.",
        min=-1, max=1280, optional=True, advanced=True,
    )  # fmt: skip


def captions_option() -> io.Input:
    """Comes after all other inputs of its nodes, as `rank_option`."""
    return io.String.Input(
        "captions", optional=True, force_input=True,
        tooltip="A caption for each picture in the same order, as Load Image-Text (from Folder) "
        "gives them: it is trained with in the place of a template. The subject stands where it "
        "says the placeholder, {} or the class word, else in front.",
    )  # fmt: skip


def zoom_option(config: type[LoopConfig]) -> io.Input:
    return setting(
        config, "zoom",
        "Pictures are also drawn small on grey or enlarged, and their prompts say so: very small, "
        "far away, zoomed in, close up. Off for a model that has not seen such pictures.",
        optional=True, advanced=True,
    )  # fmt: skip


def second_options(config: type[TrainConfig]) -> list[io.Input]:
    """A second subject, learned at once. Come after all other inputs, `keep_activations` too."""
    rare: dict[str, Any] = {"optional": True, "advanced": True}
    return [
        io.Image.Input(
            "second_images", optional=True,
            tooltip="Pictures of a second subject, which is learned at the same time, so that both "
            "can stand in one picture. Not connected: one subject.",
        ),
        io.Image.Input(
            "second_prior_images", optional=True,
            tooltip="Pictures of the second subject's class. Not connected: the untouched model "
            "makes them.",
        ),
        setting(
            config, "second_class_word", "What the second subject is, such as cat. Needed where "
            "second_images is connected, and read nowhere else.", **rare,
        ),
        setting(
            config, "second_name", "How prompts name the second subject: second is written "
            "<my-dog:second>. A small word, with a number behind it if you like.", **rare,
        ),
        setting(
            config, "second_init_word", "A rare word of one token, whose embedding the second "
            "learned word starts from.", **rare,
        ),
    ]  # fmt: skip


def init_word_option(config: type[TrainConfig]) -> io.Input:
    return setting(
        config, "init_word",
        "A rare word of one token, whose embedding the learned word starts from.",
        optional=True, advanced=True,
    )  # fmt: skip


def common_options(
    config: type[LoopConfig], preview_every: int, preview_prompt: str = "a photo of {}"
) -> list[io.Input]:
    """Optional inputs of every Train node, all advanced but the resolution."""
    rare: dict[str, Any] = {"optional": True, "advanced": True}
    return [
        setting(
            config, "resolution",
            "Side of the training pictures. 0: what the base model was made for, 512 for "
            "SD1.x and SD2.x base, 768 for SD2.x with v-prediction, 1024 for SDXL.",
            min=0, max=2048, step=8, optional=True,
        ),
        setting(
            config, "precision",
            "What the UNet computes in. auto is what the model samples with.", **rare,
        ),
        setting(
            config, "gradient_checkpointing",
            "Less memory, about a third more time a step. SDXL does so in any case, unless "
            "keep_activations is on.",
            **rare,
        ),
        setting(
            config, "flip", "Mirror every second picture at random. Switch it off for what has a "
            "left and a right, such as writing.", **rare,
        ),
        setting(
            config, "templates", "Prompts to train with, one a line, {} where the subject stands. "
            "Empty: the 27 templates of Textual Inversion.",
            multiline=True, **rare,
        ),
        io.String.Input(
            "preview_prompt", default=preview_prompt, multiline=True, **rare,
            tooltip="Prompts of the preview pictures, one a line; {} is the concept, {class} the "
            "class word.",
        ),
        io.Int.Input(
            "preview_every", default=preview_every, min=0, max=100000, **rare,
            tooltip="Steps between previews, each picture about as long as 10 training steps. The "
            "concept of such a step can be kept later. 0: none.",
        ),
        setting(
            config, "save_every",
            "Steps between saved training states. 0: only at the end and when cancelled.",
            min=0, max=100000, **rare,
        ),
        io.Boolean.Input(
            "resume", default=True, **rare,
            tooltip="Go on from the last saved state of this very training (same pictures, models "
            "and settings), after a cancel, a crash or a restart; also to add steps.",
        ),
    ]  # fmt: skip
