"""A text encoder and a denoiser of a few numbers, whose results are seen at a glance.

A prompt is encoded as the rows that enter it, and the noise that is predicted of a row of the batch
is the mean of its prompt's rows. So what a learner hands to which row can be read off its losses.
"""

from dataclasses import dataclass, field
from types import SimpleNamespace

import torch
from personalize.concepts.bases import BASES
from personalize.host.conditioning import Conditioning, EmbeddedPrompts
from torch import Tensor

WIDTH, LENGTH = 4, 16
BEGIN, END = 1, 2
LATENTS = (2, 4, 2, 2)


@dataclass
class ToyText:
    """A token for each word, whose embedding is its number in every place."""

    known: dict[str, int] = field(default_factory=dict)
    device = torch.device("cpu")
    width = WIDTH
    any_token = (0,)

    def tokenize(self, text: str) -> list[tuple[int]]:
        return [(self.known.setdefault(word, END + 1 + len(self.known)),) for word in text.split()]

    def pad(self, tokens: list[tuple[int]]) -> list[tuple[int]]:
        row = [(BEGIN,), *tokens[: LENGTH - 2], (END,)]
        return row + [(END,)] * (LENGTH - len(row))

    def embed(self, ids: Tensor) -> Tensor:
        return ids.float().expand(*ids.shape[:-1], WIDTH)

    def ends(self, ids: Tensor) -> Tensor:
        return (ids[..., 0] == END).int().argmax(dim=1)

    def encode(self, prompts: EmbeddedPrompts) -> Conditioning:
        return Conditioning(prompts.rows)

    def as_words(self, prompts: EmbeddedPrompts) -> Tensor:
        return prompts.rows + 0.5

    def embedding(self, prompts: EmbeddedPrompts) -> Tensor:
        return prompts.rows.mean(dim=1)

    def split(self, words: Tensor) -> list[Tensor]:
        return [words]

    def word_sizes(self) -> list[tuple[int, float]]:
        return [(WIDTH, 2.0)]

    def prompt(self, *tokens: int) -> list[int]:
        """The padded ids of these tokens."""
        return [n for (n,) in self.pad([(token,) for token in tokens])]


class ToyDenoiser:
    timesteps = 10

    def scale_latents(self, latents: Tensor) -> Tensor:
        return 2 * latents

    def predict(self, x0, noise, t, context, attention=None) -> Tensor:
        return context.rows.mean(dim=(1, 2)).view(-1, 1, 1, 1).expand_as(x0)

    def target(self, x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        return noise


def toy_backbone(**changes):
    """What learners ask of a `Backbone`."""
    text = ToyText()
    parts = {
        "base": BASES["sd1"], "width": WIDTH, "resolution": 512, "device": text.device,
        "compute_dtype": torch.float32, "latent_side": LATENTS[-1],
        "text": text, "split": text.split, "denoiser": ToyDenoiser(),
    }  # fmt: skip
    return SimpleNamespace(**parts | changes)
