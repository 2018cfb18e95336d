"""The host's text encoders, one or more, as one differentiable function of word embeddings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from comfy.sd import CLIP
from torch import Tensor

from ..concepts.bases import Base, TextLayer
from .base_models import towers_of
from .conditioning import Conditioning, EmbeddedPrompts, TowerOutput
from .text_attention import LayerAttentions
from .text_tower import TowerEncoder

Token = tuple[int, ...]
"""The ids of one token, one for each text encoder."""


@dataclass(frozen=True)
class HiddenState:
    """Prompts on their way through the text encoders, by encoder.

    entering: the layer that comes next; rows: what enters it, (B, 77, d); ends: see EmbeddedPrompts
    """

    entering: Mapping[str, int]
    rows: Mapping[str, Tensor]
    ends: Tensor


class TextEncoder:
    """E(.) of the papers: exactly what the UNet is conditioned on, clip skip and LoRA included.

    A word is one row of the vectors that it has in all encoders, side by side; prompts are rows of
    words, and are split only where they enter the encoders. Valid inside `Backbone.session` or
    after the host has loaded the CLIP.
    """

    def __init__(self, clip: CLIP) -> None:
        self.clip = clip
        self._text = towers_of(clip)
        self.towers = tuple(TowerEncoder(tower, clip) for tower in self._text.towers)

    @property
    def base(self) -> Base:
        return self._text.base

    @property
    def width(self) -> int:
        """Width of a word in all encoders together."""
        return self._text.width

    @property
    def device(self) -> torch.device:
        return self.clip.patcher.load_device

    @property
    def last_layers(self) -> list[TextLayer]:
        """The last layer of each encoder that reaches the conditioning."""
        return [TextLayer(tower.name, tower.last_layer) for tower in self.towers]

    @property
    def any_token(self) -> Token:
        """A token that holds a place."""
        return (0,) * len(self.towers)

    def split(self, words: Tensor) -> Sequence[Tensor]:
        """The part of each encoder in words (..., width)."""
        return self._text.split(words)

    def tokenize(self, text: str) -> list[Token]:
        """The tokens of a text, without begin and end."""
        # all CLIP tokenizers have one vocabulary of words; they differ in the padding alone
        return list(zip(*(tower.tower.tokenize(text) for tower in self.towers), strict=True))

    def pad(self, tokens: Sequence[Token]) -> list[Token]:
        """[BOS, tokens, EOS, pad ...] at the length of a prompt; the tail is cut."""
        columns = (tower.pad([token[n] for token in tokens]) for n, tower in enumerate(self.towers))
        return list(zip(*columns, strict=True))

    def embed(self, ids: Tensor) -> Tensor:
        """Token embeddings in fp32, (..., encoders) -> (..., width)."""
        columns = zip(self.towers, ids.to(self.device).unbind(-1), strict=True)
        return torch.cat([tower.embed(column) for tower, column in columns], dim=-1)

    def ends(self, ids: Tensor) -> Tensor:
        """Row of the first end token of padded prompts, (B, 77, encoders) -> (B,)."""
        end = self.towers[0].tower.tokenizer.end_token
        return (ids[..., 0] == end).int().argmax(dim=1)

    def prompts(self, texts: Sequence[str]) -> EmbeddedPrompts:
        """Texts without learned words, as they enter the encoders."""
        ids = torch.tensor([self.pad(self.tokenize(text)) for text in texts])
        return EmbeddedPrompts(self.embed(ids), self.ends(ids))

    def word_sizes(self) -> list[tuple[int, float]]:
        """Width and mean norm of a word's embedding in each encoder."""
        return [(tower.tower.width, tower.word_norm()) for tower in self.towers]

    def encode(
        self, prompts: EmbeddedPrompts, attention: LayerAttentions | None = None
    ) -> Conditioning:
        """Conditioning of a batch of prompts, fp32.

        attention: what takes the place of layers' self-attention
        """
        return self.finish(self._start(prompts), attention)

    def hidden(self, prompts: EmbeddedPrompts, entering: Mapping[str, int]) -> HiddenState:
        """What enters a layer of each encoder."""
        rows = {
            tower.name: tower.hidden(embeds, entering[tower.name])
            for tower, embeds in zip(self.towers, self.split(prompts.rows), strict=True)
        }
        return HiddenState(entering, rows, prompts.ends)

    def finish(self, state: HiddenState, attention: LayerAttentions | None = None) -> Conditioning:
        """Conditioning of prompts on their way."""
        return self._text.host_base.join(self._outputs(state, attention or {}))

    def as_words(self, prompts: EmbeddedPrompts) -> Tensor:
        """What the encoders make of each token, at the place of its embedding, (B, 77, width).

        Of bases whose context is the last layer after the final norm it is the context.
        """
        return self._text.host_base.as_words(self._outputs(self._start(prompts), {}))

    def embedding(self, prompts: EmbeddedPrompts) -> Tensor:
        """CLIP's embedding of prompts after its projection, not normalised, (B, e), fp32; of the
        last encoder, where there are several."""
        return self._outputs(self._start(prompts), {})[-1].pooled

    def _start(self, prompts: EmbeddedPrompts) -> HiddenState:
        return self.hidden(prompts, {tower.name: 0 for tower in self.towers})

    def _outputs(self, state: HiddenState, attention: LayerAttentions) -> list[TowerOutput]:
        rows, entering = state.rows, state.entering
        return [
            tower.finish(rows[tower.name], entering[tower.name], state.ends, attention)
            for tower in self.towers
        ]
