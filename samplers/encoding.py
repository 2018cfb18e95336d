"""Encoding of a prompt that names concepts: learned words of fractional strength, residual keys and
values, and the rows in which a concept stands.

What a strength does is said in `strength.py`. The rows go with the conditioning, for what acts in a
MODEL's cross attention where the prompt names the concept.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor

from ..concepts.bases import TextLayer
from ..concepts.methods import Part
from ..concepts.residual_attention import Residuals, attend_with_residuals
from ..concepts.residuals import residual_layers
from ..host.base_models import TextTowers
from ..host.bases.host_base import Tower
from ..host.text_attention import LayerAttentions, active_attention
from .local_attention import MENTIONS
from .prompt_words import AppliedConcept, mark_of
from .strength import Strength

Chunk = list[tuple[Any, ...]]
Encoded = tuple[Any, ...]


@dataclass(frozen=True)
class ConceptEncoding:
    """Stands for the text encoder's `encode_token_weights`, which it calls."""

    encode: Callable[[dict[str, list[Chunk]]], Encoded]
    text: TextTowers

    def __call__(self, tokens: dict[str, list[Chunk]]) -> Encoded:
        written = {c: None for chunks in tokens.values() for x in chunks for c in _concepts(x)}
        residual = [c for c in written if Part.RESIDUALS in c.concept.method.parts]
        words = [c for c in written if Part.WORDS in c.concept.method.parts]
        blended = [c for c in words if not c.strength.is_one]
        chunks = {tower.name: len(tokens[tower.key]) for tower in self.text.towers}
        with active_attention(side_by_side(residual, chunks)):
            encoded = self._blend(tokens, blended)
        mentions = {
            c.concept.placeholder: rows
            for c in written
            if c.needs_rows and (rows := mentioned_rows(tokens, c))
        }
        return with_mentions(encoded, mentions) if mentions else encoded

    def _blend(self, tokens: dict[str, list[Chunk]], open_: Sequence[AppliedConcept]) -> Encoded:
        if not open_:
            return self.encode(tokens)
        first, rest = open_[0], open_[1:]
        plain = {
            tower.key: [with_class_word(chunk, tower, first) for chunk in tokens[tower.key]]
            for tower in self.text.towers
        }
        return _blended(self._blend(plain, rest), self._blend(tokens, rest), first.strength)


def with_class_word(chunk: Chunk, tower: Tower, applied: AppliedConcept) -> Chunk:
    """The chunk with the class word's tokens for each mention of the concept, padded anew."""
    if applied not in _concepts(chunk):
        return chunk
    tokenizer = tower.tokenizer
    class_ids = tokenizer.tokenizer(applied.concept.class_word)["input_ids"][1:-1]
    end = _end_of(chunk, tokenizer.end_token)
    body: Chunk = []
    for entry in chunk[1:end]:
        mark = mark_of(entry[0])
        if mark is None or mark.applied is not applied:
            body.append(entry)
        elif mark.first and not mark.attribute:
            body += [(token, *entry[1:]) for token in class_ids]
    body = body[: tokenizer.max_length - 2]
    closing = (tokenizer.end_token, *_neutral(chunk[0]))
    padding = (tokenizer.pad_token, *_neutral(chunk[0]))
    missing = len(chunk) - len(body) - 2
    return [chunk[0], *body, closing, *[padding] * missing]


def mentioned_rows(tokens: dict[str, list[Chunk]], applied: AppliedConcept) -> tuple[int, ...]:
    """Rows of the conditioning, all chunks behind one another, where the bare placeholder stands;
    of a concept whose weights act in its own prompts, its attribute words, too.

    With fractional strengths of concepts in one prompt: where it stands in the learned one.
    """
    rows = set()
    for chunks in tokens.values():  # of each text encoder, whose rows lie side by side
        entries = (entry for chunk in chunks for entry in chunk)
        for row, entry in enumerate(entries):
            mark = mark_of(entry[0])
            if mark and mark.applied is applied and (applied.own_prompts or not mark.attribute):
                rows.add(row)
    return tuple(sorted(rows))


def with_mentions(encoded: Encoded, mentions: dict[str, tuple[int, ...]]) -> Encoded:
    """The encoding with the rows of mentions among what the host puts into the conditioning."""
    more = dict(encoded[2]) if len(encoded) > 2 else {}
    more[MENTIONS] = {**more.get(MENTIONS, {}), **mentions}
    return (*encoded[:2], more)


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


def _concepts(chunk: Chunk) -> list[AppliedConcept]:
    return [mark.applied for entry in chunk if (mark := mark_of(entry[0])) is not None]


def _end_of(chunk: Chunk, end_token: int | None) -> int:
    ends = (
        n for n, entry in enumerate(chunk) if isinstance(entry[0], int) and entry[0] == end_token
    )
    return next(ends, len(chunk))


def _neutral(start: tuple[Any, ...]) -> tuple[Any, ...]:
    """Weight (and word id) of a token that is no word, as the chunk's first one has them."""
    return start[1:]


def _blended(plain: Encoded, learned: Encoded, strength: Strength) -> Encoded:
    tensors = tuple(
        strength.blended(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else a
        for a, b in zip(plain[:2], learned[:2], strict=True)
    )
    return tensors + tuple(learned[2:])
