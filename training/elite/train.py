"""From the host's sockets and a source of pictures to a trained ELITE encoder."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Generator, Tensor

from ...concepts.elite import EliteEncoder
from ...concepts.errors import TrainingError
from ...concepts.vision import VisionShape
from ...host.backbone import Backbone
from ...host.denoiser import CELL
from ...host.versions import host_versions
from ...host.vision import vision_shape
from ...pictures.images import check_picture, plain_pixels, single_pictures
from ...pictures.masks import MaskMarks, Warn, has_own_masks, read_masks
from ...version import __version__
from ..descent import Alone, Descent, Processes
from ..loop import Check, NoStates, OnStep, StateKeeper, Training, TrainState
from ..memory import explain_out_of_memory, fitted
from ..states import StateFolder, training_key
from .alignment import AlignedElite
from .batches import EliteBatches, examples_for
from .config import MASKED, EliteConfig, TrainingStage
from .encoding import check_vision
from .examples import SubjectPicture, Subjects
from .global_stage import GlobalElite
from .local_stage import LocalElite

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import CLIP, VAE


USUAL_SIZE = 512  # pixels


@dataclass(frozen=True)
class EliteModels:
    """The frozen models that an encoder is trained with."""

    model: "ModelPatcher"
    clip: "CLIP"
    vae: "VAE"
    clip_vision: Any


@dataclass(frozen=True)
class TrainedElite:
    """losses: history of every term and of their sum, "loss"."""

    encoder: EliteEncoder
    losses: dict[str, list[float]]


class GivenSubjects:
    """Pictures in memory, each as a whole; masks, marks, warn: as for `read_masks`."""

    def __init__(
        self,
        images: Iterable[Tensor],
        masks: Iterable[Tensor] = (),
        marks: MaskMarks = MaskMarks.AUTO,
        warn: Warn = logging.warning,
    ) -> None:
        whole = list(single_pictures(images))
        pictures = [_checked(p, n + 1) for n, p in enumerate(whole)]
        given = list(masks)
        if not pictures:
            raise TrainingError("There is no picture to train on. Connect pictures with subjects.")
        fitting: Sequence[Tensor | None] = [None] * len(pictures)
        self.with_masks = bool(given) or has_own_masks(whole)
        if self.with_masks:
            fitting = read_masks(given, whole, marks, warn)
        self._subjects = [
            SubjectPicture(picture, mask) for picture, mask in zip(pictures, fitting, strict=True)
        ]

    @property
    def first(self) -> SubjectPicture:
        return self._subjects[0]

    def __len__(self) -> int:
        return len(self._subjects)

    def load(self, index: int, generator: Generator) -> SubjectPicture:
        return self._subjects[index]

    def identity(self) -> list[Any]:
        tensors = [t for s in self._subjects for t in (s.picture, s.mask) if t is not None]
        return [training_key(*tensors)]


def _checked(picture: Tensor, number: int) -> Tensor:
    check_picture(picture, USUAL_SIZE, f"Picture {number}")
    return plain_pixels(picture)


class FirstProcessSaves:
    """Lets the first of several processes write states; all of them go on from what it reads."""

    def __init__(self, keeper: StateKeeper, processes: Processes) -> None:
        self._keeper, self._processes = keeper, processes

    def latest(self, up_to: int, check: Check) -> TrainState | None:
        first = self._processes.index == 0
        return self._processes.from_first(self._keeper.latest(up_to, check) if first else None)

    def save(self, state: TrainState) -> None:
        if self._processes.index == 0:
            self._keeper.save(state)

    def steps(self) -> list[int]:
        return self._keeper.steps()


def train_elite(
    config: EliteConfig,
    models: EliteModels,
    subjects: Subjects,
    *,
    start: EliteEncoder | None = None,
    on_step: OnStep = lambda report: None,
    states: Path | None = None,
    resume: bool = False,
    processes: Processes | None = None,
    threads: int = 0,
) -> TrainedElite:
    """Train one stage of an encoder.

    start: an encoder to go on from; its global stage is what a local one is learned on
    states: folder that keeps training states, None to keep none
    threads: that read and augment pictures ahead
    Raises TrainingError or BaseModelError with a sentence; what the callback raises ends the
    training with its state kept.
    """
    processes = processes or Alone()
    check_stage(config, subjects, start)
    shape = vision_shape(models.clip_vision)
    if start is not None:
        check_vision(start, models.clip_vision)
    backbone = Backbone(
        models.model, models.clip, config.precision, config.gradient_checkpointing,
        keep_activations=config.keep_activations,
    )  # fmt: skip
    config = config.on_base(backbone.base, backbone.resolution)
    examples = examples_for(subjects, config, models.clip_vision)
    batches = EliteBatches(examples, backbone, models.vae, models.clip_vision, processes)
    cells = config.resolution // CELL
    with (
        explain_out_of_memory(config),
        backbone.session((min(batches.size, config.at_once), 4, cells, cells)),
        batches.working(threads),
    ):
        fingerprint = backbone.fingerprint()  # of the weights as they are before a stage opens them
        learner = _learner(config, backbone, shape, start)
        if config.stage is not TrainingStage.ALIGN:  # no UNet takes part in it
            config = fitted(config, backbone, learner.parameters)
        descent = Descent(
            config.accumulation,
            config.clip_norm,
            config.average,
            config.rate,
            learner.shares,
            processes,
        )
        training = Training(learner, config, backbone, batches, descent=descent)
        keeper: StateKeeper = NoStates()
        if states is not None:
            key = _key(config, subjects, fingerprint, start)
            keeper = FirstProcessSaves(StateFolder(states, key), processes)
        if resume:
            training.resume(keeper)
        losses = training.run(keeper, on_step)
        return TrainedElite(learner.to_encoder(training.optimizer.average_of), losses)


def _learner(
    config: EliteConfig, backbone: Backbone, shape: VisionShape, start: EliteEncoder | None
) -> AlignedElite | GlobalElite | LocalElite:
    if config.stage is TrainingStage.LOCAL:
        assert start is not None  # `check_stage`
        return LocalElite(config, backbone, start)
    stage = AlignedElite if config.stage is TrainingStage.ALIGN else GlobalElite
    return stage(config, backbone, shape, start)


def _key(
    config: EliteConfig, subjects: Subjects, fingerprint: list[str], start: EliteEncoder | None
) -> str:
    """Names the folder of a training by all that decides its result."""
    return training_key(
        *(config.identity(), subjects.identity(), fingerprint),
        *(start.digest if start else "", [__version__, host_versions()]),
    )


def check_stage(config: EliteConfig, subjects: Subjects, start: EliteEncoder | None) -> None:
    """Refuse a stage that lacks its masks or the encoder that it is about."""
    if not len(subjects):
        raise TrainingError("There is no picture to train on.")
    if config.stage is TrainingStage.LOCAL and start is None:
        raise TrainingError(
            "The local stage is learned on top of a global one. Train the global stage first, or "
            "load an encoder, and give it as elite."
        )
    if config.stage in MASKED and not subjects.with_masks:
        raise TrainingError(
            f"The {config.stage.value} stage needs a mask for each picture, and there are none. "
            "Give masks, white on the subject; the global stage needs none."
        )
