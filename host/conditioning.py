"""What the UNet is told of prompts, and what text encoders are told to make it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Conditioning:
    """What the UNet reads of a batch of prompts.

    rows: (B, T, width), one a token; pooled: (B, e), one a prompt, of bases whose UNet reads it
    """

    rows: Tensor
    pooled: Tensor | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def expand(self, count: int) -> "Conditioning":
        """One prompt, as often as there are pictures."""
        pooled = self.pooled
        return Conditioning(
            self.rows.expand(count, -1, -1), pooled if pooled is None else pooled.expand(count, -1)
        )

    def of_prompts(self, numbers: Tensor) -> "Conditioning":
        """The prompt of each number (B,); where there is only one, that one as often."""
        if len(self) == 1:
            return self.expand(len(numbers))
        pooled = self.pooled
        return Conditioning(self.rows[numbers], pooled if pooled is None else pooled[numbers])

    @staticmethod
    def cat(parts: Sequence["Conditioning"]) -> "Conditioning":
        """Several batches of one base as one batch."""
        pooled = [part.pooled for part in parts if part.pooled is not None]
        rows = torch.cat([part.rows for part in parts])
        return Conditioning(rows, torch.cat(pooled) if pooled else None)


@dataclass(frozen=True)
class EmbeddedPrompts:
    """A batch of prompts as the text encoders' embeddings.

    rows: (B, 77, width), a token's vectors in all encoders side by side
    ends: row of each prompt's first end token, (B,)
    """

    rows: Tensor
    ends: Tensor


class TowerOutput:
    """What one text encoder makes of a batch of prompts.

    The context often ends one layer before the last, and what a prompt means as a whole is read
    after it. Both come from one walk: what lies behind the context is computed when it is asked
    for, from where the context ended.

    rows: (B, T, d), this encoder's part of the context
    """

    def __init__(
        self,
        rows: Tensor,
        ends: Tensor,
        walk_on: Callable[[], Tensor],
        project: Callable[[Tensor], Tensor],
    ) -> None:
        self.rows, self._ends = rows, ends
        self._walk_on, self._project = walk_on, project

    @cached_property
    def last(self) -> Tensor:
        """The last layer after the final norm, (B, T, d)."""
        return self._walk_on()

    @cached_property
    def pooled(self) -> Tensor:
        """CLIP's embedding of the prompts: at their first end tokens, projected, (B, e).

        The host leaves the projection uninitialised where a checkpoint has none.
        """
        rows = torch.arange(len(self.last), device=self.last.device)
        return self._project(self.last[rows, self._ends.to(self.last.device)])
