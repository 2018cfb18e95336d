"""Words that a LoRA carries along (OneTrainer): ``bundle_emb.NAME.string_to_param.*`` or, by text
encoder, ``bundle_emb.NAME.clip_l``. The LoRA itself is for *Load LoRA*."""

from torch import Tensor

from ..concept import Concept
from ..foreign import ForeignFile
from .words import word_concept, word_of_encoders

_PREFIX = "bundle_emb."
_ANY = "string_to_param.*"
_OUT = "_out"


def bundled(file: ForeignFile) -> dict[str, Concept]:
    """A concept for each word in a bundle, by its name."""
    words: dict[str, dict[str, Tensor]] = {}
    for key, tensor in file.tensors.items():
        if key.startswith(_PREFIX):
            name, encoder = _parts(key.removeprefix(_PREFIX))
            words.setdefault(name, {})[encoder] = tensor
    return {name: _word(file, name, parts) for name, parts in words.items()}


def _parts(key: str) -> tuple[str, str]:
    """Name and encoder; a name may have dots in it, an encoder has none."""
    if key.endswith(f".{_ANY}"):
        return key.removesuffix(f".{_ANY}"), _ANY
    name, _, encoder = key.rpartition(".")
    return name, encoder


def _word(file: ForeignFile, name: str, parts: dict[str, Tensor]) -> Concept:
    if _ANY in parts:
        return word_concept(file, name, parts[_ANY])
    outputs = [encoder for encoder in parts if encoder.endswith(_OUT)]
    inputs = {encoder: part for encoder, part in parts.items() if encoder not in outputs}
    return word_of_encoders(file, name, inputs, outputs)
