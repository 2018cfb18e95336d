"""Batches of an ELITE training: examples made ahead in threads, then encoded."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from einops import rearrange
from torch import Generator, Tensor

from ...concepts.elite import read_layers
from ...host.backbone import Backbone
from ...host.denoiser import CELL
from ...host.latents import LatentPosterior, encode_posterior
from ...host.vision import image_embeddings, layer_features, vision_shape
from ..descent import Processes
from ..zoom import ZOOMS
from .alignment import AlignmentBatch
from .config import EliteConfig, TrainingStage
from .examples import Example, Examples, Subjects
from .global_stage import EliteBatch

if TYPE_CHECKING:
    from comfy.sd import VAE

MOST_KEPT = 2**31  # bytes of latents that a process keeps in memory


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
        self.size = examples.config.process_batch_size(processes.count)
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
        first = (batch * self.processes.count + self.processes.index) * self.size
        return range(first, first + self.size)

    def __call__(self, number: int, _: Generator) -> EliteBatch | AlignmentBatch:
        examples = self._made(number)
        if self.examples.config.stage is TrainingStage.ALIGN:
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
        local = self.examples.config.stage is TrainingStage.LOCAL
        seen = [e.seen for e in examples] + [e.local for e in examples if local]
        with backbone.paused(others_stay=True):
            posterior = self._posterior(examples)
            features = self._features(seen)
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
        with self.backbone.paused(others_stay=True):
            features = self._features([e.seen for e in examples])
            subjects = image_embeddings(self.clip_vision, _stacked([e.local for e in examples]))
        return AlignmentBatch(
            features.to(device).clone(),
            torch.tensor([e.caption for e in examples]).to(device),
            subjects.to(device),
        )

    def _features(self, pictures: Sequence[Tensor]) -> Tensor:
        layers = read_layers(vision_shape(self.clip_vision))
        return layer_features(self.clip_vision, _stacked(pictures), layers)

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
    return examples.config.stage is TrainingStage.GLOBAL and size <= MOST_KEPT


def _stacked(pictures: Sequence[Tensor]) -> Tensor:
    """(3, h, w) each -> (B, h, w, 3), as the host has pictures."""
    return rearrange(list(pictures), "b c h w -> b h w c").contiguous()


def examples_for(subjects: Subjects, config: EliteConfig, clip_vision: Any) -> Examples:
    """Examples that fit a vision encoder."""
    shape = vision_shape(clip_vision)
    assert len(ZOOMS) == 5  # `zoomed_picture` returns numbers in it
    return Examples(subjects, config, clip_vision.image_size, shape.patches)
