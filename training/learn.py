"""From the host's sockets to a concept: encode the pictures, load the models, run the loop."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from ..concepts.concept import Concept
from ..host.backbone import Backbone
from ..host.versions import host_versions
from ..version import __version__
from .catversion import CatVersion, CatVersionConfig
from .config import TrainConfig
from .cross_init import CrossInit, CrossInitConfig
from .loop import Learner, NoStates, OnStep, Training
from .pictures import EncodedPictures, encode_pictures
from .states import StateFolder, training_key
from .textual_inversion import TextualInversion, TextualInversionConfig

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import CLIP, VAE

METHODS = {
    TextualInversionConfig: TextualInversion,
    CrossInitConfig: CrossInit,
    CatVersionConfig: CatVersion,
}
"""Every method's config and learner; a new method is one more line."""


@dataclass(frozen=True)
class Learned:
    """losses: history of every term and of their sum, "loss"."""

    concept: Concept
    losses: dict[str, list[float]]


def learn(
    config: TrainConfig,
    model: "ModelPatcher",
    clip: "CLIP",
    vae: "VAE",
    images: Iterable[Tensor],
    on_step: OnStep = lambda report: None,
    states: Path | None = None,
    resume: bool = False,
) -> Learned:
    """Learn a concept from pictures with the method that the config belongs to.

    images: batches (B, H, W, C) in 0..1 of any sizes
    states: folder that keeps training states, None to keep none
    resume: go on from this very training's last state, if there is one
    Raises TrainingError, BaseModelError or PlaceholderError with a sentence; what the callback
    raises ends the training with its state kept.
    """
    backbone = Backbone(model, clip, config.precision, config.gradient_checkpointing)
    pictures = encode_pictures(vae, images, config.resolution, config.flip)
    with backbone.session((config.batch_size, *pictures.latent_shape)):
        learner = METHODS[type(config)](config, backbone)
        training = Training(learner, config, backbone, pictures)
        keeper = NoStates()
        if states is not None:
            keeper = StateFolder(states, _key(config, backbone, pictures))
        state = keeper.latest(up_to=config.steps) if resume else None
        if state is not None:
            training.restore(state)
        losses = training.run(keeper, on_step)
        return Learned(described(learner, config, training.step), losses)


def described(learner: Learner, config: TrainConfig, steps: int) -> Concept:
    """The learner's concept with the record of its training."""
    record = {
        "config": config.as_json(),
        "steps_taken": steps,
        "versions": {"personalize": __version__, **host_versions()},
    }
    return replace(learner.to_concept(), training=record)


def _key(config: TrainConfig, backbone: Backbone, pictures: EncodedPictures) -> str:
    posteriors = [p for p in (pictures.upright, pictures.mirrored) if p is not None]
    tensors = [tensor for p in posteriors for tensor in (p.mean, p.std)]
    versions = [__version__, host_versions()]
    method = type(config).__name__
    return training_key(method, config.identity(), versions, backbone.fingerprint(), *tensors)
