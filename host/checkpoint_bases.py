"""Which base model the file of a checkpoint is of, from its header alone."""

from functools import lru_cache
from pathlib import Path

import folder_paths

from ..concepts.bases import BASES
from ..concepts.errors import ConceptFileError
from ..concepts.tensor_files import read_header

UNET_FOLDERS = ("checkpoints", "diffusion_models")
"""Folders of the host whose files hold a UNet."""

_KEYS = "attn2.to_k.weight"
_REMEMBERED = 256


def base_of_checkpoint(kind: str, name: str) -> str:
    """The key of the base model of a file in a folder of the host; "" when nothing tells it.

    The width of what its cross attention reads tells the base. Of variants that concepts do not fit
    all the same, *Apply Concept* says so.
    """
    path = folder_paths.get_full_path(kind, name) if kind in UNET_FOLDERS else None
    if path is None or Path(path).suffix.lower() not in (".safetensors", ".sft"):
        return ""
    return _base_of(Path(path), Path(path).stat().st_mtime_ns)


@lru_cache(_REMEMBERED)
def _base_of(path: Path, changed: int) -> str:
    try:
        header = read_header(path, path.name).tensors
    except ConceptFileError:
        return ""
    widths = {t.shape[1] for key, t in header.items() if key.endswith(_KEYS) and t.ndim == 2}
    found = [base.key for base in BASES.values() if widths == {base.context_width}]
    return found[0] if found else ""
