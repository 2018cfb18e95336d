"""Learned words as concepts: shapes, base models, and what to say of all others."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..bases import BASES, Base
from ..concept import MAX_VECTORS, Concept
from ..errors import ConceptFileError, reading
from ..foreign import ForeignFile
from ..methods import TEXTUAL_INVERSION, Method
from ..placeholders import placeholder_from_name

SDXL_BASE = BASES["sdxl"]
SDXL_WIDTHS = dict(SDXL_BASE.encoders)


def word_concept(
    file: ForeignFile,
    token: str,
    vectors: Tensor,
    base: Base | None = None,
    method: Method = TEXTUAL_INVERSION,
    left_out: Iterable[str] = (),
) -> Concept:
    """The concept of one learned word.

    token: what the word is called in its file; its placeholder is made of it
    vectors: (d,), (n, d) or (1, n, d), of any floating point type
    base: its base model where the file tells it, else told by the width
    left_out: tensors of the file that are not in the concept
    """
    rows = word_rows(file, vectors)
    base = base or base_of_width(file, rows.shape[-1])
    training = {"imported_from": Path(file.name).name}
    with reading(file.name):
        return Concept(
            method=method,
            base=base.key,
            text_width=rows.shape[-1],
            placeholder=placeholder_from_name(token),
            words={"": rows},
            training=training | ({"left_out": sorted(left_out)} if left_out else {}),
        )


def word_of_encoders(
    file: ForeignFile, token: str, parts: Mapping[str, Tensor], left_out: Iterable[str] = ()
) -> Concept:
    """The concept of a word whose vectors for each text encoder have a name of their own."""
    base = base_of_encoders(file, parts)
    rows = {name: word_rows(file, part) for name, part in parts.items()}
    _check_widths(file, base, rows)
    with reading(file.name):
        vectors = base.join(rows)
    return word_concept(file, token, vectors, base, left_out=left_out)


def _check_widths(file: ForeignFile, base: Base, rows: Mapping[str, Tensor]) -> None:
    """Refuse parts that are not as wide as their encoders, where there are several: joined, they
    would be cut apart elsewhere."""
    widths = {name: part.shape[-1] for name, part in rows.items()}
    if len(base.encoders) > 1 and widths != dict(base.encoders):
        raise ConceptFileError(
            f"'{file.name}' has vectors of the widths {widths}. Expected {dict(base.encoders)} for "
            f"{base.title}. It was made for another base model: take one for yours."
        )


def word_rows(file: ForeignFile, vectors: Tensor) -> Tensor:
    """A word's vectors as (n, d), whatever dimensions of 1 stand before them."""
    while vectors.ndim > 2 and vectors.shape[0] == 1:
        vectors = vectors[0]
    if vectors.ndim not in (1, 2) or not vectors.is_floating_point():
        raise ConceptFileError(
            f"'{file.name}' is no embedding: expected the vectors of a word, got a tensor of shape "
            f"{tuple(vectors.shape)} and type {vectors.dtype}. Take the embedding's own file."
        )
    return vectors[None] if vectors.ndim == 1 else vectors


def base_of_width(file: ForeignFile, width: int) -> Base:
    """The base model with one text encoder whose words have that width; raise for any other.

    Of words for several encoders no program writes the joined vectors."""
    alone = [base for base in BASES.values() if len(base.encoders) == 1]
    for base in alone:
        if base.text_width == width:
            return base
    if width == SDXL_WIDTHS["clip_g"]:
        raise half_a_word(file, f"vectors of width {width}")
    known = ", ".join(f"{base.text_width} ({base.title})" for base in alone)
    raise ConceptFileError(
        f"'{file.name}' has vectors of width {width}. Expected {known}. It was made for another "
        "base model: take one for yours."
    )


def base_of_encoders(file: ForeignFile, names: Iterable[str]) -> Base:
    """The base model that has exactly these text encoders; raise for any others."""
    wanted = set(names)
    for base in BASES.values():
        if set(base.encoder_names) == wanted:
            return base
    listed = ", ".join(sorted(wanted))
    if wanted < SDXL_WIDTHS.keys():
        raise half_a_word(file, f"vectors for {listed}")
    known = ", ".join(" and ".join(base.encoder_names) for base in BASES.values())
    raise ConceptFileError(
        f"'{file.name}' holds vectors for {listed}. Expected vectors for one of {known}. It was "
        "made for another base model: take one for yours."
    )


def half_a_word(file: ForeignFile, found: str) -> ConceptFileError:
    """Says that a word for one of SDXL's two encoders is none for SDXL; found: what is there."""
    encoders = " and ".join(SDXL_BASE.encoder_names)
    return ConceptFileError(
        f"'{file.name}' holds {found}, half of a word for {SDXL_BASE.title}. Expected vectors for "
        f"{encoders}, since half of a word is another one. Take the whole file; of a pair such as "
        "learned_embeds and learned_embeds_2 put both into one folder and load the first."
    )


def is_word(tensor: Tensor) -> bool:
    """Could be the vectors of a word: not a counter of steps, not a mark."""
    return tensor.is_floating_point() and tensor.ndim >= 1 and tensor.shape[-1] > 1


def is_word_of_known_width(tensor: Tensor) -> bool:
    """Vectors of an encoder that Stable Diffusion has, no more than a prompt holds."""
    widths = {width for base in BASES.values() for _, width in base.encoders}
    known = is_word(tensor) and tensor.shape[-1] in widths
    return known and tensor.numel() <= MAX_VECTORS * tensor.shape[-1]


def stacked(file: ForeignFile, parts: Mapping[str, Tensor]) -> Tensor:
    """The vectors of one word whose vectors have names of their own."""
    rows = [word_rows(file, part) for part in parts.values()]
    widths = sorted({part.shape[-1] for part in rows})
    if len(widths) != 1:
        raise ConceptFileError(
            f"'{file.name}' holds a word in parts ({', '.join(parts)}) of the widths {widths}. "
            "Expected vectors of one width. Its parts do not belong together: take the whole file "
            "of one word."
        )
    return torch.cat(rows)
