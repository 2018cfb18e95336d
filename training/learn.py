"""From the host's sockets to a concept: encode the pictures, load the models, run the loop."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from torch import Generator, Tensor

from ..concepts.concept import Concept
from ..concepts.errors import TrainingError
from ..host.backbone import Backbone
from ..host.versions import host_versions
from ..host.vision import image_embeddings
from ..pictures.images import single_pictures, small_copies, square_pictures
from ..pictures.masks import MaskMarks, Warn, square_masks
from ..version import __version__
from .batch import Batch, draw_batch
from .catversion import CatVersion, CatVersionConfig
from .config import TrainConfig
from .cross_init import CrossInit, CrossInitConfig
from .custom_diffusion import CustomDiffusion, CustomDiffusionConfig, PriorConfig
from .detex import BLANK, Detex, DetexConfig
from .loop import ConceptLearner, NoStates, OnStep, Training
from .memory import told_what_to_lower
from .pictures import (
    EncodedPictures,
    Views,
    encode_pictures,
    encode_squares,
)
from .prior import ClassPictures, OnPicture
from .states import StateFolder, training_key
from .textual_inversion import TextualInversion, TextualInversionConfig

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import CLIP, VAE

METHODS = {
    TextualInversionConfig: TextualInversion,
    CrossInitConfig: CrossInit,
    CatVersionConfig: CatVersion,
    CustomDiffusionConfig: CustomDiffusion,
    DetexConfig: Detex,
}
"""Every method's config and learner; a new method is one more line."""


@dataclass(frozen=True)
class Material:
    """What some methods take beside pictures of the subject.

    prior_images: pictures of the class, batches as `images`; without any, the model makes them
    prior_folder: keeps those that the model made, None to keep none
    on_prior: told how many of them there are, of how many
    masks: one for each picture, with mask_marks and warn as `read_masks` takes them
    clip_vision: the host's CLIP_VISION
    """

    prior_images: Sequence[Tensor] = ()
    prior_folder: Path | None = None
    on_prior: OnPicture = lambda made, count: None
    masks: Sequence[Tensor] = ()
    mask_marks: MaskMarks = MaskMarks.AUTO
    warn: Warn = logging.warning
    clip_vision: Any = None


_NOTHING = Material()


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
    material: Material = _NOTHING,
) -> Learned:
    """Learn a concept from pictures with the method that the config belongs to.

    images: batches (B, H, W, C) in 0..1 of any sizes
    states: folder that keeps training states, None to keep none
    resume: go on from this very training's last state, if there is one
    Raises TrainingError, BaseModelError or PlaceholderError with a sentence; what the callback
    raises ends the training with its state kept; StopTraining ends it with the concept so far.
    """
    images = list(images)
    backbone = Backbone(model, clip, config.precision, config.gradient_checkpointing)
    pictures = encode_pictures(vae, images, config.resolution, config.flip)
    if isinstance(config, DetexConfig):
        pictures = replace(pictures, views=encode_views(config, vae, images, material))
    rows = config.batch_size * (2 if wants_prior(config) else 1)
    with told_what_to_lower(config), backbone.session((rows, *pictures.latent_shape)):
        if wants_prior(config):
            prior = encode_prior(config, backbone, (model, clip, vae), material)
            pictures = replace(pictures, prior=prior)
        learner = make_learner(config, backbone, pictures)

        def draw(_: int, generator: Generator) -> Batch:
            size = config.batch_size
            return draw_batch(pictures, backbone, size, learner.prompts, generator)

        training = Training(learner, config, backbone, draw)
        keeper = NoStates()
        if states is not None:
            keeper = StateFolder(states, _key(config, backbone, pictures))
        if resume:
            training.resume(keeper)
        losses = training.run(keeper, on_step)
        concept = described(learner, config, training.step)
        return Learned(replace(concept, pictures=small_copies(images)), losses)


def make_learner(
    config: TrainConfig, backbone: Backbone, pictures: EncodedPictures
) -> ConceptLearner:
    """The learner of the config's method, inside a session."""
    if isinstance(config, DetexConfig):
        if pictures.views is None:
            raise TrainingError("DETEX needs the masks and image embeddings of its pictures.")
        return Detex(config, backbone, pictures.views)
    return METHODS[type(config)](config, backbone)


def described(learner: ConceptLearner, config: TrainConfig, steps: int) -> Concept:
    """The learner's concept with the record of its training."""
    record = {
        "config": config.as_json(),
        "steps_taken": steps,
        "versions": {"personalize": __version__, **host_versions()},
    }
    return replace(learner.to_concept(), training=record)


def encode_views(
    config: DetexConfig, vae: "VAE", images: Sequence[Tensor], material: Material
) -> Views:
    """What DETEX knows of the pictures besides their latents."""
    squares = square_pictures(images, config.resolution)
    masks = square_masks(
        material.masks,
        list(single_pictures(images)),
        config.resolution,
        material.mask_marks,
        material.warn,
    )
    blanked = None
    if config.mask_probability:
        inside = masks[..., None]
        blanked = encode_squares(vae, squares * inside + BLANK * (1 - inside), config.flip)
    return Views(image_embeddings(material.clip_vision, squares), masks, blanked)


def wants_prior(config: TrainConfig) -> TypeGuard[PriorConfig]:
    return isinstance(config, PriorConfig) and config.prior_weight > 0


def encode_prior(
    config: PriorConfig,
    backbone: Backbone,
    models: "tuple[ModelPatcher, CLIP, VAE]",
    material: Material,
) -> EncodedPictures:
    """The given pictures of the class, or those that the untouched model makes, inside a session.

    They are not mirrored: there are many of them.
    """
    fingerprint = backbone.fingerprint()
    with backbone.paused():
        images: Iterable[Tensor] = material.prior_images
        if not material.prior_images:
            wanted = ClassPictures(
                config.prior_prompt, config.resolution, config.train_seed, fingerprint
            )
            folder = material.prior_folder
            images = [wanted.make(models, config.prior_count, folder, material.on_prior)]
        return encode_pictures(models[2], images, config.resolution, False, "Prior picture")


def _key(config: TrainConfig, backbone: Backbone, pictures: EncodedPictures) -> str:
    versions = [__version__, host_versions()]
    method = type(config).__name__
    return training_key(
        method, config.identity(), versions, backbone.fingerprint(), *pictures.tensors()
    )
