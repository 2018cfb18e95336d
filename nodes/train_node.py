"""What all Train nodes do: read the inputs, train while the user watches, return the concept."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from comfy_api.latest import io
from torch import Tensor

from ..concepts.methods import Method
from ..host.folders import prior_folder, states_folder
from ..host.sampling import text_to_image
from ..samplers.apply import apply_concept
from ..training.config import TrainConfig
from ..training.learn import learn
from ..training.learner import ConceptLearner
from ..training.loop import StepReport
from ..training.sources import Sources
from .inputs import (
    HIDDEN_OF_TRAINERS,
    SUBJECT_WORDS,
    ConceptSocket,
    Presets,
    config_of,
    keep_activations_option,
    lines_of,
    mask_marks_of,
    setting,
    with_preset,
)
from .monitor import Monitor, plottable, times_continued, watched
from .sockets import Node

CATEGORY = "personalize/train"
ALIASES = [*SUBJECT_WORDS, "textual inversion", "dreambooth", "embedding", "fine-tune", "trainer"]
LISTS = (
    *("images", "masks", "prior_images", "captions"),
    *("second_images", "second_prior_images"),
)
"""Inputs of which every entry counts, not the first."""


class TrainNode(Node):
    """The node of a method: names its learner, and its inputs in `define_schema`."""

    learner: ClassVar[type[ConceptLearner]]
    presets: ClassVar[Presets] = {}

    @classmethod
    def makes(cls) -> Method:
        """What its concepts are, so that a browser can tell before it has run."""
        return cls.learner.method

    @classmethod
    def execute(cls, **lists: Any) -> io.NodeOutput:
        with watched(cls.hidden, first_values(lists)) as monitor:
            values = first_values(cls.checked(lists))
            config = cls.make_config(values)

            def draw(report: StepReport, prompt: str) -> Tensor:
                concept = report.learner.to_concept()
                patched = apply_concept(values["model"], values["clip"], concept)
                side = config.resolution or report.backbone.resolution
                return text_to_image(*patched, values["vae"], prompt, side)

            config = monitor.begin(config, cls.shown_prompts(config, values), draw)
            learned = learn(
                config,
                sources_of(values, monitor),
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
    def make_config(cls, values: Mapping[str, Any]) -> TrainConfig:
        """The config in the values of a node's inputs."""
        return config_of(cls.learner.config_type, with_preset(cls.presets, values))

    @classmethod
    def preview_prompts(cls, values: Mapping[str, Any]) -> list[str]:
        """Prompts of the preview pictures; {} is the concept, {class} the class word."""
        return lines_of(values.get("preview_prompt", ""))

    @classmethod
    def shown_prompts(cls, config: TrainConfig, values: Mapping[str, Any]) -> list[str]:
        """The same as they are drawn."""
        class_word = values.get("class_word", "")
        return [
            prompt.replace("{}", config.placeholder).replace("{class}", class_word)
            for prompt in cls.preview_prompts(values)
        ]

    @classmethod
    def setting(cls, name: str, tooltip: str, **options: Any) -> io.Input:
        """The input of a field of the method's config."""
        return setting(cls.learner.config_type, name, tooltip, **options)

    @classmethod
    def train_schema(
        cls,
        node_id: str,
        description: str,
        inputs: Sequence[io.Input],
        later: Sequence[io.Input] = (),
    ) -> io.Schema:
        """The schema of a Train node with these inputs.

        later: those that came after all others, since saved workflows list values in their order
        """
        return io.Schema(
            node_id=node_id,
            display_name=f"Train {cls.makes().title}",
            category=CATEGORY,
            description=description,
            search_aliases=ALIASES,
            is_input_list=True,
            is_output_node=True,  # may stand alone: its panel shows what it learned, and saves it
            inputs=[*inputs, keep_activations_option(cls.learner.config_type), *later],
            outputs=[
                ConceptSocket.Output(display_name="concept"),
                io.LossMap.Output(display_name="losses"),
            ],
            hidden=HIDDEN_OF_TRAINERS,
        )


def first_values(lists: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs of a node that gets lists: the first value where one is meant."""
    return {name: v if name in LISTS else v[0] for name, v in lists.items()}


def sources_of(values: Mapping[str, Any], monitor: Monitor) -> Sources:
    """What there is to learn from in the values of a node's inputs."""
    return Sources(
        model=values["model"],
        clip=values["clip"],
        vae=values["vae"],
        images=values["images"],
        masks=values.get("masks", ()),
        mask_marks=mask_marks_of(values),
        warn=monitor.warn,
        clip_vision=values.get("clip_vision"),
        prior_images=values.get("prior_images", ()),
        second_images=values.get("second_images", ()),
        second_prior_images=values.get("second_prior_images", ()),
        captions=values.get("captions", ()),
        prior_folder=prior_folder(),
        on_prior=monitor.tell_prior,
    )
