"""Embeddings that name the text encoder: of the host, kohya's scripts, OneTrainer and cog.

``{"clip_l": vectors}``, ``{"emb_params": vectors}``, for SDXL ``{"clip_l": ..., "clip_g": ...}``.
OneTrainer can also learn what an encoder gives *out* for a word (``clip_l_out``): such vectors
stand in no prompt's tokens, and no other program reads them.
"""

from collections.abc import Iterable

from ..bases import BASES
from ..concept import Concept
from ..errors import ConceptFileError
from ..foreign import ForeignFile
from .words import word_concept, word_of_encoders

_ANY = ("emb_params", "emp_params")  # the second is how OneTrainer spells it
_OUT = "_out"
_COG = {"text_encoders_0": "clip_l", "text_encoders_1": "clip_g"}
_OTHERS = ("t5", "t5xxl", "llama", "qwen", "gemma")


def named_after_encoders(file: ForeignFile) -> dict[str, Concept]:
    """The concept in a file whose keys are text encoders."""
    tensors = file.tensors
    parts = {encoder: tensors[key] for key, encoder in encoders(tensors).items()}
    outputs = [key for key in tensors if _is_output(key)]
    if parts:
        return {file.name: word_of_encoders(file, file.name, parts, outputs)}
    if any(key in tensors for key in _ANY):
        vectors = next(tensors[key] for key in _ANY if key in tensors)
        return {file.name: word_concept(file, file.name, vectors, left_out=outputs)}
    if outputs:
        raise ConceptFileError(
            f"'{file.name}' holds what a text encoder gives out for a word ({', '.join(outputs)}), "
            "which only OneTrainer can put into a prompt. Expected vectors that go into the "
            "encoder. Train it again with the output embedding switched off."
        )
    return {}


def encoders(keys: Iterable[str]) -> dict[str, str]:
    """Which of the keys are text encoders, and the host's names of these."""
    known = {name for base in BASES.values() for name in base.encoder_names}
    names = {name: name for name in (*known, *_OTHERS)} | _COG
    return {key: names[key] for key in keys if key in names}


def _is_output(key: str) -> bool:
    name = key.removesuffix(_OUT)
    return name != key and (name in _ANY or bool(encoders([name])))
