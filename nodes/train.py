"""Train nodes: pictures in, a concept out."""

from dataclasses import asdict
from typing import Any, ClassVar

from comfy_api.latest import io
from torch import Tensor

from ..concepts.placeholders import attribute_placeholder
from ..host.folders import prior_folder, states_folder
from ..host.sampling import text_to_image
from ..samplers.apply import apply_concept
from ..training.catversion import CatVersionConfig
from ..training.config import TrainConfig
from ..training.cross_init import PRESETS, CrossInitConfig, InitFrom, Regulariser
from ..training.custom_diffusion import CustomDiffusionConfig
from ..training.detex import DetexConfig, PoseWord
from ..training.learn import learn
from ..training.loop import StepReport
from ..training.sources import Sources
from ..training.textual_inversion import TextualInversionConfig
from .inputs import (
    HIDDEN_OF_TRAINERS,
    PLACEHOLDER_TIP,
    ConceptSocket,
    Presets,
    common_options,
    config_of,
    default_of,
    init_word_option,
    lines_of,
    mask_marks_input,
    mask_marks_of,
    model_inputs,
    preset_option,
    prior_options,
    schedule_inputs,
    seed_input,
    with_preset,
)
from .monitor import plottable, times_continued, watched

CATEGORY = "personalize/train"
CLASS_WORD_TIP = (
    "What the subject is, such as dog. It follows the learned word wherever the placeholder stands."
)
ALIASES = ["personalize", "textual inversion", "dreambooth", "subject", "concept", "embedding"]


class TrainNode(io.ComfyNode):
    """What all Train nodes do; each names its config and its inputs."""

    config: ClassVar[type[TrainConfig]]
    presets: ClassVar[Presets] = {}

    @classmethod
    def execute(cls, **lists: list[Any]) -> io.NodeOutput:
        images, masks = lists.pop("images"), lists.pop("masks", ())
        prior_images = lists.pop("prior_images", ())
        values = {name: value[0] for name, value in lists.items()}
        with watched(cls.hidden, values) as monitor:
            config = cls.make_config(values)

            def draw(report: StepReport, prompt: str) -> Tensor:
                concept = report.learner.to_concept()
                patched = apply_concept(values["model"], values["clip"], concept)
                side = config.resolution or report.backbone.resolution
                return text_to_image(*patched, values["vae"], prompt, side)

            config = monitor.begin(config, cls.shown_prompts(config, values), draw)
            sources = Sources(
                model=values["model"],
                clip=values["clip"],
                vae=values["vae"],
                images=images,
                masks=masks,
                mask_marks=mask_marks_of(values),
                warn=monitor.warn,
                clip_vision=values.get("clip_vision"),
                prior_images=prior_images,
                prior_folder=prior_folder(),
                on_prior=monitor.tell_prior,
            )
            learned = learn(
                config,
                sources,
                on_step=monitor,
                states=states_folder(),
                resume=values.get("resume", True),
            )
            monitor.finish(config.steps, learned.losses)
        losses = plottable(learned.losses["loss"])
        return io.NodeOutput(learned.concept, losses, ui=monitor.shown)

    @classmethod
    def fingerprint_inputs(cls, **lists: Any) -> int:
        return times_continued(cls.hidden, lists)

    @classmethod
    def make_config(cls, values: dict[str, Any]) -> TrainConfig:
        """The config in the values of a node's inputs."""
        return config_of(cls.config, with_preset(cls.presets, values))

    @classmethod
    def preview_prompts(cls, values: dict[str, Any]) -> list[str]:
        """Prompts of the preview pictures; {} is the concept, {class} the class word."""
        return lines_of(values.get("preview_prompt", ""))

    @classmethod
    def shown_prompts(cls, config: TrainConfig, values: dict[str, Any]) -> list[str]:
        """The same as they are drawn."""
        class_word = values.get("class_word", "")
        return [
            prompt.replace("{}", config.placeholder).replace("{class}", class_word)
            for prompt in cls.preview_prompts(values)
        ]


def train_schema(
    node_id: str,
    name: str,
    description: str,
    own: list[io.Input],
    options: list[io.Input],
    sockets: list[io.Input] | None = None,
) -> io.Schema:
    """What all Train nodes have, around a method's own inputs and options."""
    return io.Schema(
        node_id=node_id,
        display_name=name,
        category=CATEGORY,
        description=description,
        search_aliases=ALIASES,
        is_input_list=True,
        is_output_node=True,  # it may stand alone: its panel shows what it learned, and saves it
        inputs=[*(sockets or model_inputs()), *own, *options],
        outputs=[
            ConceptSocket.Output(display_name="concept"),
            io.LossMap.Output(display_name="losses"),
        ],
        hidden=HIDDEN_OF_TRAINERS,
    )


class TrainTextualInversion(TrainNode):
    config = TextualInversionConfig

    @classmethod
    def define_schema(cls) -> io.Schema:
        own = [
            io.String.Input("placeholder", default="<my-dog>", tooltip=PLACEHOLDER_TIP),
            io.String.Input(
                "init_word", default="dog",
                tooltip="What the subject is, in a word: the new words start from its embedding, "
                "and it stands in for the concept at strength 0.",
            ),
            io.Int.Input(
                "vectors", default=default_of(cls.config, "vectors"), min=1, max=74,
                tooltip="Number of new words. More hold more detail and are harder to edit.",
            ),
            *schedule_inputs(cls.config),
            seed_input(),
        ]  # fmt: skip
        return train_schema(
            "PersonalizeTrainTextualInversion",
            "Train Textual Inversion",
            "Learns a subject as new words of the text encoder (Gal et al. 2022), the baseline of "
            "the other methods.",
            own,
            common_options(cls.config, preview_every=250),
        )


class TrainCatVersion(TrainNode):
    config = CatVersionConfig

    @classmethod
    def define_schema(cls) -> io.Schema:
        own = [
            io.String.Input("placeholder", default="<my-dog>", tooltip=PLACEHOLDER_TIP),
            io.String.Input(
                "class_word", default="dog",
                tooltip="What the subject is, such as dog. Prompts are encoded with this word in "
                "the placeholder's place, and the residuals beside it.",
            ),
            io.Int.Input(
                "residual_tokens", default=default_of(cls.config, "residual_tokens"),
                min=1, max=75, advanced=True,
                tooltip="Residual keys and values a layer, 1 in the paper. More learn sooner and "
                "hold more detail: 4 to 8 where 1 stays unlike the subject.",
            ),
            io.Int.Input(
                "layers", default=default_of(cls.config, "layers"),
                min=1, max=24, advanced=True,
                tooltip="How many text layers are changed, counted back from the last one that "
                "reaches the model. The first layers change what the whole prompt means.",
            ),
            *schedule_inputs(cls.config),
            seed_input(),
        ]  # fmt: skip
        options = [
            io.Float.Input(
                "logit_bias", default=default_of(cls.config, "logit_bias"),
                min=-10.0, max=10.0, step=0.1, round=0.001, optional=True, advanced=True,
                tooltip="Added to the attention logits of the residuals: 1 in the published code, "
                "0 in the paper.",
            ),
            *common_options(cls.config, preview_every=100),
        ]  # fmt: skip
        return train_schema(
            "PersonalizeTrainCatVersion",
            "Train CatVersion",
            "Learns a subject as residual keys and values in the last layers of the text encoder "
            "(Zhao et al. 2023). Sampling costs nothing more.",
            own,
            options,
        )


class TrainCustomDiffusion(TrainNode):
    config = CustomDiffusionConfig

    @classmethod
    def define_schema(cls) -> io.Schema:
        own = [
            io.String.Input("placeholder", default="<my-dog>", tooltip=PLACEHOLDER_TIP),
            io.String.Input("class_word", default="dog", tooltip=CLASS_WORD_TIP),
            *schedule_inputs(cls.config),
            seed_input(),
        ]
        return train_schema(
            "PersonalizeTrainCustomDiffusion",
            "Train Custom Diffusion",
            "Learns a subject as a word and the keys and values of the model's cross attention "
            "(Kumari et al. 2023), the baseline of DETEX. Pictures of the class keep its meaning.",
            own,
            [
                *prior_options(cls.config),
                init_word_option(cls.config),
                *common_options(cls.config, preview_every=50),
            ],
        )


class TrainDETEX(TrainNode):
    config = DetexConfig

    @classmethod
    def define_schema(cls) -> io.Schema:
        model, clip, vae, images = model_inputs()
        sockets = [
            model, clip, vae,
            io.ClipVision.Input(
                "clip_vision", tooltip="A CLIP vision encoder, such as CLIP ViT-L/14, which sees "
                "each picture's pose and background. It is not changed.",
            ),
            images,
            io.Mask.Input(
                "masks", tooltip="A mask for each picture in the same order, white on the subject, "
                "such as Segment Subject makes.",
            ),
        ]  # fmt: skip
        own = [
            io.String.Input("placeholder", default="<my-dog>", tooltip=PLACEHOLDER_TIP),
            io.String.Input("class_word", default="dog", tooltip=CLASS_WORD_TIP),
            io.Combo.Input(
                "pose_word", options=PoseWord, default=PoseWord.POSE,
                tooltip="pose for what moves; view for rigid things, whose texture a pose word "
                "would take.",
            ),
            *schedule_inputs(cls.config),
            seed_input(),
        ]  # fmt: skip
        options = [
            *prior_options(cls.config),
            io.Float.Input(
                "attention_weight", default=default_of(cls.config, "attention_weight"),
                min=0.0, max=10.0, step=0.001, round=0.0001, optional=True, advanced=True,
                tooltip="How firmly a pose word is held to the subject and a background word to "
                "what is around it.",
            ),
            io.Float.Input(
                "mask_probability", default=default_of(cls.config, "mask_probability"),
                min=0.0, max=1.0, step=0.05, round=0.001, optional=True, advanced=True,
                tooltip="How often the background is removed from a picture and its prompt.",
            ),
            init_word_option(cls.config),
            *common_options(cls.config, preview_every=100),
            mask_marks_input(),
        ]  # fmt: skip
        return train_schema(
            "PersonalizeTrainDETEX",
            "Train DETEX",
            "Learns a subject apart from its poses and backgrounds (Cai et al. 2024): "
            "<my-dog> is the subject alone, <my-dog:pose2> and <my-dog:background1> are the second "
            "picture's pose and the first one's background.",
            own,
            options,
            sockets,
        )

    @classmethod
    def preview_prompts(cls, values: dict[str, Any]) -> list[str]:
        name = values["placeholder"].strip()
        pose, background = (attribute_placeholder(name, a) for a in ("pose1", "background1"))
        attributes = f" with {pose} {values['pose_word']} in {background} background"
        return [*super().preview_prompts(values), f"photo of a {{}}{attributes}"]


class TrainCrossInit(TrainNode):
    config = CrossInitConfig
    presets: ClassVar[Presets] = {name: asdict(preset) for name, preset in PRESETS.items()}

    @classmethod
    def define_schema(cls) -> io.Schema:
        own = [
            io.String.Input("placeholder", default="<me>", tooltip=PLACEHOLDER_TIP),
            io.String.Input(
                "class_word", default=default_of(cls.config, "class_word"),
                tooltip="What the subject is: person for a face, else a word such as dog. It "
                "stands in for the concept at strength 0.",
            ),
            io.Combo.Input(
                "init_from", options=InitFrom, default=InitFrom.NAMES,
                tooltip="Start from the text encoder's output for the mean of well-known names "
                "(faces) or for the class word (all else).",
            ),
            *schedule_inputs(cls.config),
            io.Float.Input(
                "reg_weight", default=default_of(cls.config, "reg_weight"),
                min=0.0, max=1.0, step=1e-6, round=1e-8, advanced=True,
                tooltip="How firmly the words are held near their start.",
            ),
            seed_input(),
        ]  # fmt: skip
        options = [
            preset_option(cls.presets, default="quality"),
            io.Combo.Input(
                "regulariser", options=Regulariser, default=Regulariser.DISTANCE,
                optional=True, advanced=True,
                tooltip="distance: as in the published code. squared: as in the paper.",
            ),
            *common_options(
                cls.config, preview_every=50, preview_prompt="a photo of {} {class}"
            ),
        ]  # fmt: skip
        return train_schema(
            "PersonalizeTrainCrossInit",
            "Train Cross Initialization",
            "Learns a face or another subject as two words that start from the text encoder's own "
            "output (Pang et al. 2024): few steps, easy to edit.",
            own,
            options,
        )
