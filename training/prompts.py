"""Training prompts with places for learned words, tokenised once."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..concepts.errors import TrainingError
from ..host.backbone import Backbone
from ..host.conditioning import Conditioning, EmbeddedPrompts
from ..host.text_encoder import TextEncoder, Token

Piece = str | range
"""Text, or the rows of the learned vectors that stand at this place."""


class PromptTable:
    """Tokenised prompts whose learned places are filled in at every step.

    ids: (P, 77, encoders) token ids; slots: (P, 77), row of the learned vectors or -1; ends: (P,),
    row of the first end token; all where the text encoder is
    """

    def __init__(self, text: TextEncoder, prompts: Sequence[Sequence[Piece]]) -> None:
        rows = [_row(text, pieces) for pieces in prompts]
        self.ids = torch.tensor([ids for ids, _ in rows]).to(text.device)
        self.slots = torch.tensor([slots for _, slots in rows]).to(text.device)
        self.ends = text.ends(self.ids)

    def __len__(self) -> int:
        return self.ids.shape[0]

    def plain(self, text: TextEncoder, which: Tensor) -> EmbeddedPrompts:
        """Prompts of these numbers (B,) whose learned places hold any token."""
        which = which.to(self.ids.device)
        return EmbeddedPrompts(text.embed(self.ids[which]), self.ends[which])

    def embed(self, text: TextEncoder, which: Tensor, vectors: Tensor) -> EmbeddedPrompts:
        """Prompts of these numbers (B,) with the vectors in place, (n, width of a word).

        vectors: the same for all prompts, or (B, n, width). Gradients reach the vectors alone.
        """
        which, vectors = which.to(text.device), vectors.to(text.device)
        slots = self.slots[which]
        plain = self.plain(text, which)
        places = slots.clamp(min=0)
        if vectors.ndim == 2:
            learned = vectors[places]
        else:
            learned = vectors.take_along_dim(places[..., None], dim=1)
        rows = torch.where((slots >= 0)[..., None], learned, plain.rows)
        return EmbeddedPrompts(rows, plain.ends)

    def rows_of(self, slot: int) -> Tensor:
        """Row of each prompt in which a learned vector stands, (P,)."""
        return (self.slots == slot).int().argmax(dim=1)


def template_pieces(template: str, subject: Sequence[Piece]) -> list[Piece]:
    """``a photo of a {}`` with the subject's pieces in the place of ``{}``."""
    before, _, after = template.partition("{}")
    return [before, *subject, after]


def encoded_prompt(backbone: Backbone, prompt: str) -> Conditioning:
    """Conditioning of one prompt without learned words."""
    table = PromptTable(backbone.text, [[prompt]])  # refuses one that is too long
    with torch.no_grad():
        return backbone.text.encode(table.plain(backbone.text, torch.tensor([0])))


def _row(text: TextEncoder, pieces: Sequence[Piece]) -> tuple[list[Token], list[int]]:
    ids: list[Token] = []
    slots: list[int] = []
    for piece in pieces:
        tokens = text.tokenize(piece) if isinstance(piece, str) else [text.any_token] * len(piece)
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
