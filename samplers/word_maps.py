"""Where a MODEL looks at the words of a prompt, in a finished picture or while one is drawn."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..concepts.errors import PersonalizeError
from ..host.attention_maps import AttentionRecorder
from ..host.noisy_passes import noisy_passes, sigma_at
from ..host.sampling import encode_prompt, text_to_latents
from .prompt_rows import WrittenWord, chosen_words, written_words

LAYERS = {"all": None, "full": 0, "half": 1, "quarter": 2, "eighth": 3}
"""Which cross attentions to read: how often the latent's size was halved there."""


@dataclass(frozen=True, kw_only=True)
class Look:
    """How to look.

    steps: noise levels of a finished picture, or sampling steps of a new one
    layers: a key of LAYERS
    start, end: which part of the sampling to look at, 0 for noise alone and 1 for the picture
    cfg, negative: of a new picture
    """

    steps: int = 10
    layers: str = "all"
    start: float = 0.0
    end: float = 1.0
    seed: int = 0
    cfg: float = 7.0
    negative: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end <= 1:
            raise PersonalizeError(
                f"Expected a start_percent below end_percent, both from 0 to 1, got {self.start} "
                f"and {self.end}. 0 and 1 look at the whole sampling."
            )

    @property
    def percents(self) -> list[float]:
        """Noise levels in the middles of equal parts of the range."""
        part = (self.end - self.start) / self.steps
        return [self.start + part * (n + 0.5) for n in range(self.steps)]


@dataclass(frozen=True)
class WordMaps:
    """words: whose maps they are; maps: (n, h, w), the share of its attention that each place of
    the latent gives to each word; latent: the picture, (1, C, h, w)"""

    words: Sequence[WrittenWord]
    maps: Tensor
    latent: Tensor


def word_maps(
    model: Any,
    clip: Any,
    prompt: str,
    latent: Tensor,
    *,
    words: str = "",
    look: Look | None = None,
    on_step: Callable[[int], None] = lambda count: None,
) -> WordMaps:
    """Maps of the words of a prompt; MODEL and CLIP stay as they are.

    latent: (B, C, h, w), of which the first is looked at; zeros ask for a new picture
    words: which ones, with commas between them; "" for all
    Raises PersonalizeError for words that the prompt does not have.
    """
    look = look or Look()
    written, tokens = written_words(clip, prompt)
    chosen = chosen_words(written, words)
    latent = latent[:1]
    recorder = AttentionRecorder(
        [word.rows for word in chosen],
        tokens,
        (latent.shape[-2], latent.shape[-1]),
        scale=LAYERS[look.layers],
        sigmas=(sigma_at(model, look.start), sigma_at(model, look.end)),
    )
    model = recorder.attached(model)
    if torch.count_nonzero(latent):
        conditioning = encode_prompt(clip, prompt)
        noisy_passes(
            model, conditioning, latent, percents=look.percents, seed=look.seed, on_pass=on_step
        )
    else:
        latent = text_to_latents(
            model,
            clip,
            prompt,
            latent,
            negative=look.negative,
            seed=look.seed,
            steps=look.steps,
            cfg=look.cfg,
            on_step=on_step,
        )
    return WordMaps(chosen, recorder.maps(), latent)
