"""The adapter of the official CatVersion program (SD1.5, layers 9 to 11, one prefix or more)."""

from pathlib import Path

from ..bases import BASES, TextLayer
from ..concept import Concept
from ..errors import ConceptFileError
from ..foreign import ForeignFile
from ..methods import CATVERSION
from ..placeholders import placeholder_from_name
from ..residuals import OFFICIAL_BIAS, residual_layers, residual_tensors

_KEY = "self_prefix.control_trans"
_LAYERS = (9, 10, 11)
_BASE = BASES["sd1"]
_WIDTH = _BASE.text_width


def adapter(file: ForeignFile) -> dict[str, Concept]:
    """The concept in an official adapter.

    Every key holds the same floats: (prefix, layer * 2 + {0: key, 1: value}, head * head_dim).
    The file does not say what the subject is: the concept has no class word until it gets one.
    """
    flat = next((t for key, t in file.tensors.items() if key.endswith(_KEY)), None)
    if flat is None:
        return {}
    rows = 2 * len(_LAYERS)
    if flat.numel() == 0 or flat.numel() % (rows * _WIDTH):
        raise ConceptFileError(
            f"'{file.name}' holds {flat.numel()} numbers; an official CatVersion adapter has a "
            f"multiple of {rows} x {_WIDTH} (keys and values of 3 layers of SD1.5). It may be cut "
            "off, or made for another base model: take its original file."
        )
    table = flat.float().reshape(-1, rows, _WIDTH)
    layers = {
        TextLayer("clip_l", index): (table[:, 2 * n].contiguous(), table[:, 2 * n + 1].contiguous())
        for n, index in enumerate(_LAYERS)
    }
    concept = Concept(
        method=CATVERSION,
        base=_BASE.key,
        text_width=_WIDTH,
        placeholder=placeholder_from_name(file.name),
        tensors=residual_tensors(_BASE, layers, OFFICIAL_BIAS),
        training={"imported_from": Path(file.name).name},
    )
    residual_layers(concept)  # refuses NaN with a sentence
    return {concept.placeholder: concept}
