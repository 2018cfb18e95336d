"""Encoding of a prompt that names concepts: learned words of fractional strength, residual keys and
values, and the rows in which a concept stands.

What a strength does is said in `strength.py`. The rows go with the conditioning, for what acts in a
MODEL's cross attention where the prompt names the concept.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ..concepts.bases import TextLayer
from ..concepts.methods import Part
from ..concepts.residual_attention import Residuals, attend_with_residuals
from ..concepts.residuals import residual_layers
from ..host.base_models import TextTowers
from ..host.bases.host_base import Tower
from ..host.prompt_tokens import Chunk, Encoded, Tokens, blended, tokens_in, with_tokens
from ..host.text_attention import LayerAttentions, active_attention
from ..host.text_patches import Encode
from .mentions import mentioned_rows, with_mentions
from .prompt_words import AppliedConcept, mark_of


@dataclass(frozen=True)
class ConceptEncoding:
    """Takes the place of a CLIP's encoding of tokens, which it calls."""

    encode: Encode
    text: TextTowers

    def __call__(self, tokens: Tokens) -> Encoded:
        named = {mark.applied: None for token in tokens_in(tokens) if (mark := mark_of(token))}
        residual = [c for c in named if Part.RESIDUALS in c.concept.method.parts]
        words = [c for c in named if Part.WORDS in c.concept.method.parts]
        fractional = [c for c in words if not c.strength.is_one]
        chunks = {tower.name: len(tokens[tower.key]) for tower in self.text.towers}
        with active_attention(side_by_side(residual, chunks)):
            encoded = self._encode_blended(tokens, fractional)
        mentions = {
            c.concept.placeholder: rows
            for c in named
            if c.needs_rows and (rows := mentioned_rows(tokens, c))
        }
        return with_mentions(encoded, mentions)

    def _encode_blended(self, tokens: Tokens, fractional: Sequence[AppliedConcept]) -> Encoded:
        """The encoding in which some concepts have a strength between 0 and 1, or beyond."""
        if not fractional:
            return self.encode(tokens)
        first, rest = fractional[0], fractional[1:]
        plain = {
            tower.key: [with_class_word(chunk, tower, first) for chunk in tokens[tower.key]]
            for tower in self.text.towers
        }
        without, learned = self._encode_blended(plain, rest), self._encode_blended(tokens, rest)
        return blended(without, learned, first.strength.blended)


def with_class_word(chunk: Chunk, tower: Tower, applied: AppliedConcept) -> Chunk:
    """The chunk with the class word's tokens wherever it names the concept."""

    def replace(token: Any) -> Sequence[int] | None:
        mark = mark_of(token)
        if mark is None or mark.applied is not applied:
            return None
        return tower.tokenize(applied.concept.class_word_of(mark.attribute)) if mark.first else ()

    return with_tokens(chunk, tower, replace)


def side_by_side(applied: Sequence[AppliedConcept], chunks: Mapping[str, int]) -> LayerAttentions:
    """Attention with the residuals of several concepts in a prompt, with their strengths.

    chunks: of the prompt, by text encoder. Behind them the host may put an empty one, which prompts
        with weights are compared with: it stays stock
    """
    layers: dict[TextLayer, Sequence[Residuals]] = {}
    for one in applied:
        pairs, bias = residual_layers(one.concept)
        for layer, (keys, values) in pairs.items():
            scaled = Residuals(keys, values, one.strength.logit_bias(bias))
            layers[layer] = [*layers.get(layer, ()), scaled]
    return {
        layer: partial(attend_with_residuals, residuals=residuals, rows=chunks[layer.encoder])
        for layer, residuals in layers.items()
    }
