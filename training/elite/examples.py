"""What ELITE trains on: a subject becomes the picture to denoise, what the encoder sees, and noise.

Everything random in an example is a function of the seed and of the example's number in the whole
training, so it is the same however the work is shared among processes or resumed.
"""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample, interpolate, pad

from ...concepts.elite import grid_of
from ...concepts.errors import PictureError, TrainingError
from ...host.backbone import Backbone
from ...host.latents import LatentPosterior, encode_posterior
from ...host.vision import image_embeddings, layer_features, vision_shape
from ..descent import Processes
from ..templates import parse_templates
from .alignment import AlignmentBatch
from .config import EliteConfig, Stage
from .stages import ZOOMS, EliteBatch

if TYPE_CHECKING:
    from comfy.sd import VAE

CELL = 8  # pixels of a latent
GREY = 0.5  # beside a zoomed-out picture
MOST_UNUSABLE = 100  # pictures in a row before the training gives up
MOST_KEPT = 2**31  # bytes of latents that a process keeps in memory


@dataclass(frozen=True)
class Subject:
    """A picture (H, W, 3), fp32 in 0..1, and the mask (H, W) of its subject, None without one."""

    picture: Tensor
    mask: Tensor | None


class Unusable(PictureError):
    """A subject that is too small or too narrow, or has no mask: another takes its place."""


class Subjects(Protocol):
    """Pictures to train on, read one at a time; all of them have masks, or none."""

    with_masks: bool

    def __len__(self) -> int: ...

    def load(self, index: int, generator: Generator) -> Subject:
        """A subject, cropped at random where its crop is not fixed. Raises PictureError for one
        that cannot be used."""
        ...

    def identity(self) -> list[Any]:
        """JSON values that tell these pictures from others."""
        ...


@dataclass(frozen=True)
class Example:
    """target: (3, size, size), the picture to denoise; visible: (1, size / 8, size / 8)

    seen: (3, side, side), what the encoder makes words of; local: (3, side, side), the masked
    subject with mask (1, rows, columns) on the encoder's patches, both empty in the global stage;
    in the stage align the subject on white, with an empty mask
    caption: number of the prompt; noise, sampling: (4, size / 8, size / 8), of the latent and of
    the VAE's posterior; moment: in 0..1, of the noise schedule; index: of the subject
    """

    target: Tensor
    visible: Tensor
    seen: Tensor
    local: Tensor
    mask: Tensor
    caption: int
    noise: Tensor
    sampling: Tensor
    moment: float
    index: int


def example_generator(seed: int, number: int) -> Generator:
    """The random numbers of one example of a training."""
    state = np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)
    return Generator().manual_seed(int(state[0]))


@lru_cache(maxsize=2)
def order(seed: int, epoch: int, count: int) -> Tensor:
    """The subjects of an epoch in the order in which they come."""
    return torch.randperm(count, generator=example_generator(seed ^ 0x0E11, epoch))


@dataclass(frozen=True)
class Examples:
    """Makes the examples of a training by their numbers.

    side, patches: of the vision encoder; unusable: numbers of pictures that were told as such
    """

    subjects: Subjects
    config: EliteConfig
    side: int
    patches: int
    unusable: set[int] = field(default_factory=set)

    def __call__(self, number: int) -> Example:
        config = self.config
        generator = example_generator(config.train_seed, number)
        size = config.resolution
        # drawn first, so that they do not depend on what becomes of the picture
        shape = (4, size // CELL, size // CELL)
        noise, sampling = (torch.randn(shape, generator=generator) for _ in range(2))
        moment = _uniform(generator)
        template = _choice(generator, len(parse_templates(config.templates)))
        index, subject = self._subject(number, generator)
        picture = subject.picture.movedim(-1, 0)
        target, visible, zoom = resized(picture, size), torch.ones(1, *shape[1:]), 0
        if config.stage is Stage.LOCAL:
            assert subject.mask is not None  # checked before the training
            if config.zoom:
                target, visible, zoom = zoomed_picture(picture, size, generator)
            seen = resized(picture, self.side)
            local, mask = moved_subject(picture, subject.mask, self.side, self.patches, generator)
        else:
            seen = disguised(resized(picture, self.side), config.flip, generator)
            local, mask = torch.zeros(0), torch.zeros(0)
            if config.stage is Stage.ALIGN:
                assert subject.mask is not None  # checked before the training
                local = resized(picture * subject.mask + (1 - subject.mask), self.side)
        caption = zoom * len(parse_templates(config.templates)) + template
        return Example(
            target, visible, seen, local, mask, caption, noise, sampling, moment, index
        )  # fmt: skip

    def _subject(self, number: int, generator: Generator) -> tuple[int, Subject]:
        """The subject of a number; in the place of an unusable one the next."""
        count = len(self.subjects)
        epoch, place = divmod(number, count)
        seed = self.config.train_seed
        last = ""
        for further in range(MOST_UNUSABLE):
            index = int(order(seed, epoch, count)[(place + further) % count])
            try:
                return index, self.subjects.load(index, generator)
            except PictureError as error:
                last = str(error)
                self._tell_once(index, last)
        raise TrainingError(f"{MOST_UNUSABLE} pictures in a row cannot be used. The last: {last}")

    def _tell_once(self, index: int, why: str) -> None:
        if index not in self.unusable:
            self.unusable.add(index)
            logging.warning("A picture is left out of the training. %s", why)


def resized(picture: Tensor, size: int) -> Tensor:
    """A whole picture (3, H, W) as a square, whatever its shape."""
    if picture.shape[1:] == (size, size):
        return picture
    scaled = interpolate(picture[None], (size, size), mode="bicubic", antialias=True)
    return scaled[0].clamp(0, 1)


def disguised(picture: Tensor, flip: bool, generator: Generator) -> Tensor:
    """What the encoder sees in the global stage: mirrored, turned by up to 20 degrees, blurred.

    The published code also calls an elastic transform, at settings that move no pixel by a tenth
    of one; it is left out.
    """
    mirrored, turned, angle, blurred = (_uniform(generator) for _ in range(4))
    width = 3 + 2 * _choice(generator, 3)
    if flip and mirrored < 0.5:
        picture = picture.flip(-1)
    if turned < 0.5:
        picture = warped(picture, _turn((2 * angle - 1) * 20), "reflection")
    if blurred < 0.3:
        picture = blur(picture, width)
    return picture


def moved_subject(
    picture: Tensor, mask: Tensor, side: int, patches: int, generator: Generator
) -> tuple[Tensor, Tensor]:
    """What the encoder sees of the subject in the local stage, and its mask on the patches.

    The masked picture, enlarged by up to 256 / 224, turned by up to 30 degrees and shifted by up to
    60 / 224 of its side, each in one case out of two. When nothing would be left under the mask,
    it stays as it is.
    """
    enlarged, turned, shifted = (_uniform(generator) < 0.5 for _ in range(3))
    scale, angle = 1 + 32 / 224 * _uniform(generator), 60 * _uniform(generator) - 30
    room = [(2 * _uniform(generator) - 1) * (1 - 1 / scale) for _ in range(2)]
    shift = [(2 * _uniform(generator) - 1) * 60 / 224 for _ in range(2)]
    move = torch.eye(3)
    if enlarged:
        move = torch.tensor([[1 / scale, 0, room[0]], [0, 1 / scale, room[1]], [0, 0, 1]])
    if turned:
        move = move @ _turn(angle)
    if shifted:
        move = move @ torch.tensor([[1, 0, -2 * shift[0]], [0, 1, -2 * shift[1]], [0, 0, 1.0]])
    subject = resized(picture * mask, side)
    whole = interpolate(mask[None, None], (side, side), mode="nearest")[0]
    changed = on_patches(warped(whole, move, "zeros", "nearest"), patches)
    if changed.any():
        return warped(subject, move, "zeros"), changed
    return subject, on_patches(whole, patches)


def on_patches(mask: Tensor, patches: int) -> Tensor:
    """A mask (1, h, w) on the encoder's grid, taken nearest."""
    return interpolate(mask[None], grid_of(patches), mode="nearest")[0]


def zoomed_picture(picture: Tensor, size: int, generator: Generator) -> tuple[Tensor, Tensor, int]:
    """The picture to denoise, where its latents are visible, and the number in ZOOMS that says how.

    In two of three cases drawn at a third to the whole of the size, else at 1.2 to 1.4 times of it
    (Kumari et al. 2023, section 3.3). Below 0.6 it stands on grey, at any place.
    """
    smaller, scale, word = (_uniform(generator) for _ in range(3))
    places = [_uniform(generator), _uniform(generator)]
    cells = size // CELL
    drawn = round(size * (1 / 3 + 2 / 3 * scale if smaller < 2 / 3 else 1.2 + 0.2 * scale))
    corner = [round(place * abs(size - drawn)) for place in places]
    if drawn > size:
        top, left = corner
        large = resized(picture, drawn)[:, top : top + size, left : left + size]
        return large, torch.ones(1, cells, cells), 3 + (word < 0.5)
    if drawn >= 0.6 * size:
        return resized(picture, size), torch.ones(1, cells, cells), 0
    canvas = torch.full((3, size, size), GREY)
    top, left = corner
    canvas[:, top : top + drawn, left : left + drawn] = resized(picture, drawn)
    visible = torch.zeros(1, cells, cells)
    rows, columns = (_inside(start, start + drawn) for start in corner)
    visible[:, rows, columns] = 1
    return canvas, visible, 1 + (word < 0.5)


def _inside(start: int, stop: int) -> slice:
    """Latent cells of a range of pixels without those at its edge, one at least."""
    first = start // CELL + 1
    return slice(first, max(stop // CELL - 1, first + 1))


def warped(picture: Tensor, move: Tensor, beside: str, mode: str = "bilinear") -> Tensor:
    """A picture (C, h, w) looked up at moved places; move: (3, 3), in coordinates of -1..1."""
    grid = affine_grid(move[None, :2], [1, *picture.shape], align_corners=False)
    moved = grid_sample(picture[None], grid, mode, beside, align_corners=False)
    return moved[0]


def blur(picture: Tensor, width: int) -> Tensor:
    """Mean over squares of an odd number of pixels."""
    padded = pad(picture[None], [width // 2] * 4, mode="reflect")
    return avg_pool2d(padded, width, stride=1)[0]


def _turn(degrees: float) -> Tensor:
    angle = torch.tensor(degrees).deg2rad()
    cos, sin = float(angle.cos()), float(angle.sin())
    return torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])


def _uniform(generator: Generator) -> float:
    return float(torch.rand((), generator=generator))


def _choice(generator: Generator, count: int) -> int:
    return int(torch.randint(count, (), generator=generator))


class EliteBatches:
    """The batches of one process, by number: examples made ahead in threads, then encoded.

    In the global stage a subject's target never changes. Where memory allows it is encoded once,
    alone, so that a resumed training finds the same bits. Use it inside `working`.
    """

    AHEAD = 2

    def __init__(
        self,
        examples: Examples,
        backbone: Backbone,
        vae: "VAE",
        clip_vision: Any,
        processes: Processes,
    ) -> None:
        self.examples, self.backbone, self.vae = examples, backbone, vae
        self.clip_vision, self.processes = clip_vision, processes
        self.share = examples.config.share(processes.count)
        self._pool: ThreadPoolExecutor | None = None
        self._coming: dict[int, list[Future[Example]]] = {}
        self._kept: dict[int, LatentPosterior] | None = {} if keeps_latents(examples) else None

    @contextmanager
    def working(self, threads: int) -> Iterator[None]:
        """Make examples ahead in so many threads; with 0 each when it is needed."""
        self._pool = ThreadPoolExecutor(threads) if threads else None
        try:
            yield
        finally:
            if self._pool is not None:
                self._pool.shutdown(cancel_futures=True)
            self._pool, self._coming = None, {}

    def numbers(self, batch: int) -> range:
        """Numbers of this process's examples in its batch of a number."""
        first = (batch * self.processes.count + self.processes.index) * self.share
        return range(first, first + self.share)

    def __call__(self, number: int, _: Generator) -> EliteBatch | AlignmentBatch:
        examples = self._made(number)
        if self.examples.config.stage is Stage.ALIGN:
            return self._compared(examples)
        return self._encoded(examples)

    def _made(self, number: int) -> list[Example]:
        if self._pool is None:
            return [self.examples(n) for n in self.numbers(number)]
        for batch in range(number, number + self.AHEAD + 1):
            if batch not in self._coming:
                numbers = self.numbers(batch)
                self._coming[batch] = [self._pool.submit(self.examples, n) for n in numbers]
        return [future.result() for future in self._coming.pop(number)]

    def _encoded(self, examples: Sequence[Example]) -> EliteBatch:
        backbone, device = self.backbone, self.backbone.device
        local = self.examples.config.stage is Stage.LOCAL
        seen = [e.seen for e in examples] + [e.local for e in examples if local]
        with backbone.paused():
            posterior = self._posterior(examples)
            features = layer_features(self.clip_vision, _stacked(seen))
        features = features.to(device).clone()  # no inference tensor any more
        sampling = torch.stack([e.sampling for e in examples])
        latents = posterior.mean + posterior.std * sampling
        steps = backbone.denoiser.timesteps
        return EliteBatch(
            x0=backbone.denoiser.scale_latents(latents.to(device)),
            noise=torch.stack([e.noise for e in examples]).to(device),
            t=torch.tensor([min(int(e.moment * steps), steps - 1) for e in examples]),
            index=torch.tensor([e.index for e in examples]),
            prompt=torch.tensor([e.caption for e in examples]),
            features=features[:, : len(examples)],
            visible=torch.stack([e.visible for e in examples]).to(device),
            local=features[:, len(examples) :],
            masks=torch.stack([e.mask for e in examples]).to(device),
        )

    def _compared(self, examples: Sequence[Example]) -> AlignmentBatch:
        device = self.backbone.device
        with self.backbone.paused():
            features = layer_features(self.clip_vision, _stacked([e.seen for e in examples]))
            subjects = image_embeddings(self.clip_vision, _stacked([e.local for e in examples]))
        return AlignmentBatch(
            features.to(device).clone(),
            torch.tensor([e.caption for e in examples]),
            subjects.to(device),
        )

    def _posterior(self, examples: Sequence[Example]) -> LatentPosterior:
        if self._kept is None:
            return encode_posterior(self.vae, _stacked([e.target for e in examples]))
        for example in examples:
            if example.index not in self._kept:
                self._kept[example.index] = encode_posterior(self.vae, _stacked([example.target]))
        kept = [self._kept[example.index] for example in examples]
        return LatentPosterior(
            torch.cat([posterior.mean for posterior in kept]),
            torch.cat([posterior.std for posterior in kept]),
        )


def keeps_latents(examples: Examples) -> bool:
    """Whether all targets stay the same, and their latents' mean and std fit into memory."""
    cells = examples.config.resolution // CELL
    size = len(examples.subjects) * 2 * 4 * cells**2 * 4  # fp32
    return examples.config.stage is Stage.GLOBAL and size <= MOST_KEPT


def _stacked(pictures: Sequence[Tensor]) -> Tensor:
    """(3, h, w) each -> (B, h, w, 3), as the host has pictures."""
    return torch.stack(list(pictures)).movedim(1, -1).contiguous()


def examples_for(subjects: Subjects, config: EliteConfig, clip_vision: Any) -> Examples:
    """Examples that fit a vision encoder."""
    shape = vision_shape(clip_vision)
    assert len(ZOOMS) == 5  # `zoomed_picture` returns numbers in it
    return Examples(subjects, config, clip_vision.image_size, shape.patches)
