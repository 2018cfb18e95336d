"""Training prompts with places for learned words, tokenised once."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..concepts.errors import TrainingError
from ..host.text_encoder import TextEncoder

Piece = str | range
"""Text, or the rows of the learned vectors that stand at this place."""


class PromptTable:
    """Tokenised prompts whose learned places are filled in at every step.

    ids: (P, 77) token ids; slots: (P, 77), row of the learned vectors or -1; ends: (P,), row of the
    first end token
    """

    def __init__(self, text: TextEncoder, prompts: Sequence[Sequence[Piece]]) -> None:
        rows = [_row(text, pieces) for pieces in prompts]
        self.ids = torch.tensor([ids for ids, _ in rows])
        self.slots = torch.tensor([slots for _, slots in rows])
        self.ends = (self.ids == text.tower.tokenizer.end_token).int().argmax(dim=1)

    def __len__(self) -> int:
        return self.ids.shape[0]

    def embed(self, text: TextEncoder, which: Tensor, vectors: Tensor) -> Tensor:
        """Embedded prompts with the vectors in place, (B,), (n, d) -> (B, 77, d).

        vectors: the same for all prompts, or (B, n, d). Gradients reach the vectors alone.
        """
        slots = self.slots[which].to(text.device)
        plain = text.embed(self.ids[which])
        places = slots.clamp(min=0)
        if vectors.ndim == 2:
            learned = vectors[places]
        else:
            learned = vectors.take_along_dim(places[..., None], dim=1)
        return torch.where((slots >= 0)[..., None], learned, plain)

    def rows_of(self, slot: int) -> Tensor:
        """Row of each prompt in which a learned vector stands, (P,)."""
        return (self.slots == slot).int().argmax(dim=1)


def template_pieces(template: str, subject: Sequence[Piece]) -> list[Piece]:
    """``a photo of a {}`` with the subject's pieces in the place of ``{}``."""
    before, _, after = template.partition("{}")
    return [before, *subject, after]


def _row(text: TextEncoder, pieces: Sequence[Piece]) -> tuple[list[int], list[int]]:
    ids: list[int] = []
    slots: list[int] = []
    for piece in pieces:
        tokens = text.tokenize(piece) if isinstance(piece, str) else [0] * len(piece)
        ids += tokens
        slots += [-1] * len(tokens) if isinstance(piece, str) else list(piece)
    padded = text.pad(ids)
    if len(ids) > len(padded) - 2:
        words = " ".join(p if isinstance(p, str) else "<...>" for p in pieces)
        raise TrainingError(
            f"A training prompt has {len(ids)} tokens, one chunk holds {len(padded) - 2}: "
            f"'{' '.join(words.split())}'. Use fewer vectors, or a shorter template or class word."
        )
    return padded, [-1, *slots, *[-1] * (len(padded) - len(slots) - 1)]
