"""Which samples of a batch have a prompt that names a concept, as indices on the batch's device.

They are made once and kept, since an index that is made on the CPU for each block of each step
makes a GPU wait.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

KEPT = 64  # layouts of batches, of all samplings


@dataclass(frozen=True)
class NamedSamples:
    """index: of the samples, (n,); rows: where in each one's prompt the word is, (n, r), -1 where
    it is there less often than in another's

    span: the same samples where they are neighbours, which needs no copy
    """

    index: Tensor
    rows: Tensor
    span: slice | None

    def of(self, batch: Tensor) -> Tensor:
        """Their part of a batch."""
        return batch[self.index if self.span is None else self.span]

    def add(self, batch: Tensor, addition: Tensor) -> Tensor:
        """The batch with something added to their part."""
        return batch.index_add(0, self.index, addition)


def named_samples(
    rows: Sequence[tuple[int, ...]], size: int, device: torch.device
) -> NamedSamples | None:
    """Those of the parts of a batch that have rows; None if no part has.

    rows: of each part; size: of the batch, of which all parts have as many samples
    """
    # autograd saves no inference tensor, and a MODEL with a concept may be trained on
    return _named_samples(tuple(rows), size, device, torch.is_inference_mode_enabled())


@lru_cache(KEPT)
def _named_samples(
    rows: tuple[tuple[int, ...], ...], size: int, device: torch.device, inference: bool
) -> NamedSamples | None:
    named = [n for n, found in enumerate(rows) if found]
    if not named:
        return None
    samples, longest = size // len(rows), max(map(len, rows))
    index = [n * samples + sample for n in named for sample in range(samples)]
    filled = [[*rows[n], *[-1] * (longest - len(rows[n]))] for n in named for _ in range(samples)]
    neighbours = index[-1] - index[0] == len(index) - 1
    span = slice(index[0], index[-1] + 1) if neighbours else None
    return NamedSamples(torch.tensor(index).to(device), torch.tensor(filled).to(device), span)
