"""From what a node is given to a concept: prepare the pictures, load the models, run the loop."""

from dataclasses import dataclass, replace
from pathlib import Path

from ..concepts.concept import Concept
from ..host.backbone import Backbone
from ..host.versions import host_versions
from ..pictures.images import small_copies
from ..version import __version__
from .config import TrainConfig
from .learner import learner_of
from .loop import NoStates, OnStep, Training
from .memory import explain_out_of_memory, fitted
from .pictures import EncodedPictures
from .sources import Sources
from .states import StateFolder, training_key

EARLIER_DEFAULT = 512
"""Of the nodes' resolution, before 0 stood for the base model's own."""


@dataclass(frozen=True)
class Learned:
    """losses: history of every term and of their sum, "loss"."""

    concept: Concept
    losses: dict[str, list[float]]


def learn(
    config: TrainConfig,
    sources: Sources,
    *,
    on_step: OnStep = lambda report: None,
    states: Path | None = None,
    resume: bool = False,
) -> Learned:
    """Learn a concept from pictures with the method that the config belongs to.

    states: folder that keeps training states, None to keep none
    resume: go on from this very training's last state, if there is one
    Raises TrainingError, BaseModelError or PlaceholderError with a sentence; what the callback
    raises ends the training with its state kept; StopTraining ends it with the concept so far.
    """
    method = learner_of(config)
    backbone = Backbone(
        sources.model, sources.clip, config.precision, config.gradient_checkpointing,
        keep_activations=config.keep_activations,
    )  # fmt: skip
    config = config.on_base(backbone.base, backbone.resolution)
    if config.resolution == EARLIER_DEFAULT and backbone.resolution >= 2 * EARLIER_DEFAULT:
        sources.warn(
            f"The resolution is {EARLIER_DEFAULT}, as in workflows for Stable Diffusion 1.x, but "
            f"this MODEL was made for {backbone.resolution}: its pictures of the concept may be "
            "cut and coarse. Set resolution to 0 for the model's own."
        )
    with explain_out_of_memory(config):
        pictures = method.prepare(config, sources, backbone)
        with backbone.session(pictures.batch_shape(config.at_once)):
            learner = method(config, backbone, pictures)
            rows, *_ = pictures.batch_shape(1)
            config = fitted(
                config, backbone, learner.parameters, rows=rows, maps=learner.reads_maps
            )
            training = Training(learner, config, backbone, lambda _, g: learner.draw(backbone, g))
            keeper = NoStates()
            if states is not None:
                keeper = StateFolder(states, _key(config, backbone, pictures))
            if resume:
                training.resume(keeper)
            losses = training.run(keeper, on_step)
            record, shown = _record(config, training.step), small_copies(sources.all_images)
            concept = replace(learner.to_concept(), training=record, pictures=shown)
            return Learned(concept, losses)


def _record(config: TrainConfig, steps: int) -> dict[str, object]:
    return {
        "config": config.as_json(),
        "steps_taken": steps,
        "versions": {"personalize": __version__, **host_versions()},
    }


def _key(config: TrainConfig, backbone: Backbone, pictures: EncodedPictures) -> str:
    """Names the folder of a training by all that decides its result. States of the version before
    are found by it, so nothing in it may change without a reason."""
    versions = [__version__, host_versions()]
    method = type(config).__name__
    captions = [list(pictures.captions)] if pictures.captions else []  # earlier versions knew none
    return training_key(
        *(method, config.identity(), versions, backbone.fingerprint()),
        *pictures.tensors(),
        *captions,
    )
