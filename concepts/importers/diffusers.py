"""Embeddings of diffusers and its relatives (InvokeAI, Cross Initialization): words by token.

``{"<cat-toy>": vectors}``. A word of several vectors may have one key a vector: ``<cat>``,
``<cat>_1``, ... as diffusers numbers tokens, or ``28017_v0``, ``28017_v1`` as the published program
of Cross Initialization does.
"""

import re
from collections.abc import Container, Iterable

from torch import Tensor

from ..concept import Concept
from ..foreign import ForeignFile
from ..methods import CROSS_INIT, TEXTUAL_INVERSION
from .custom_diffusion import WEIGHTS_STEM
from .words import (
    SDXL_WIDTHS,
    is_word,
    is_word_of_known_width,
    stacked,
    word_concept,
    word_of_encoders,
)

_VERSIONED = re.compile(r"(.+)_v(\d{1,4})")
_NUMBERED = re.compile(r"(.+)_(\d{1,4})")


def tokens(file: ForeignFile) -> dict[str, Concept]:
    """A concept for each word in the file, by its token."""
    vectors = {key: tensor for key, tensor in file.tensors.items() if is_word(tensor)}
    if len(vectors) > 1 and not all(map(is_word_of_known_width, vectors.values())):
        return {}
    second = _second_half(file, vectors)
    found = {}
    for token, keys in by_word(vectors).items():
        word = stacked(file, {key: vectors[key] for key in keys})
        name = file.name if token == "*" else token
        if set(keys) <= second.keys():
            other = stacked(file, {key: second[key] for key in keys})
            found[token] = word_of_encoders(file, name, {"clip_l": word, "clip_g": other})
            continue
        published = len(keys) == 2 and all(map(_VERSIONED.fullmatch, keys))
        method = CROSS_INIT if published else TEXTUAL_INVERSION
        found[token] = word_concept(file, name, word, method=method, left_out=_weights(file))
    return found


def by_word(keys: Iterable[str]) -> dict[str, list[str]]:
    """The keys of each word in the order of its vectors.

    A number counts parts only where two or more keys have one stem and their numbers go from 0
    without a gap: ``my_cat_v2`` alone is a name, and so are ``cat_v1`` and ``dog_v1``.
    """
    remaining, words = list(dict.fromkeys(keys)), {}
    for pattern in (_VERSIONED, _NUMBERED):
        stems: dict[str, dict[int, str]] = {}
        for key in remaining:
            if match := pattern.fullmatch(key):
                stems.setdefault(match[1], {}).setdefault(int(match[2]), key)
        for stem, numbered in stems.items():
            if pattern is _NUMBERED and stem in remaining:
                numbered.setdefault(0, stem)  # diffusers gives the first one no number
            if len(numbered) > 1 and sorted(numbered) == list(range(len(numbered))):
                words[stem] = [numbered[n] for n in range(len(numbered))]
                remaining = [key for key in remaining if key not in words[stem]]
    return words | {key: [key] for key in remaining}


def _second_half(file: ForeignFile, keys: Container[str]) -> dict[str, Tensor]:
    """The words for SDXL's second encoder, which diffusers writes into a file beside the first:
    ``learned_embeds`` and ``learned_embeds_2``."""
    second = f"{file.path.stem}_2" if file.path else ""
    for other in file.beside(lambda path: path.stem == second):
        words = {key: t for key, t in other.tensors.items() if key in keys and is_word(t)}
        if {t.shape[-1] for t in words.values()} == {SDXL_WIDTHS["clip_g"]}:
            return words
    return {}


def _weights(file: ForeignFile) -> list[str]:
    """Weights beside ``<new1>.bin``, of which Custom Diffusion's word is only one half."""
    if file.path is None or not file.path.stem.startswith("<"):
        return []
    return sorted(path.name for path in file.path.parent.glob(f"{WEIGHTS_STEM}.*"))
