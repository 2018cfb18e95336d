"""Files of other programs, read as plain values; what these mean, the importers say.

Pickled files are read by `pickles.py`, which unpickles nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .errors import ConceptFileError
from .pickles import read_pickle
from .tensor_files import read_header, read_tensors

PICKLED = (".pt", ".bin", ".ckpt", ".pth")
SAFE = (".safetensors", ".sft", ".pti")
"""The last is how cog's trainer for Stable Diffusion XL names its words."""

MAX_FOREIGN_BYTES = 256 * 2**20  # keys and values of Stable Diffusion 2.x are 98 MiB in fp32
MAX_WORD_BYTES = 2**20  # 75 vectors of any known text encoder are below 0.5 MiB


@dataclass(frozen=True)
class ForeignFile:
    """What a file of another program holds.

    name: how the user calls the file, for messages and for words without a name
    content: nested dictionaries and lists of tensors and plain values, as the file has them
    path: where it lies; files that belong together lie in one folder
    token: which of several words is asked for; "" for none
    header_only: tensors are on the device `meta`, also those of files beside it
    read: the other files that were looked into
    """

    name: str
    content: Any
    path: Path | None = None
    token: str = ""
    header_only: bool = False
    read: list[Path] = field(default_factory=list)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors at the top of the file by key."""
        return plain_tensors(self.content)

    def beside(self, wanted: Callable[[Path], bool]) -> Iterator["ForeignFile"]:
        """Small files in the same folder, as far as they can be read, in the order of names."""
        for path in sorted(self.path.parent.iterdir()) if self.path else []:
            known = path.suffix.lower() in (*PICKLED, *SAFE) and path != self.path
            if known and wanted(path) and path.is_file() and path.stat().st_size < MAX_WORD_BYTES:
                self.read.append(path)
                try:
                    yield read_foreign(path, path.name, self.header_only)
                except ConceptFileError:
                    continue


def read_foreign(path: Path, name: str, header_only: bool = False) -> ForeignFile:
    """Read a file of another program, a safetensors or a pickle by its content.

    header_only: tensors are on the device `meta`, with shape and type and no numbers
    Raises ConceptFileError for what is damaged or unsafe, and for what is no file of tensors.
    """
    check_kind(path, name)
    read = _safe_tensors if is_safetensors(path) else read_pickle
    return ForeignFile(name, read(path, name, header_only), path, header_only=header_only)


def is_safetensors(path: Path) -> bool:
    """Told by the content, since some programs name any file .pt; a damaged one by its name."""
    with path.open("rb") as file:
        head = file.read(9)
    return path.suffix.lower() in SAFE or (len(head) == 9 and head[8:] == b"{")


def check_kind(path: Path, name: str) -> None:
    """Refuse what was saved in a file's place: a web page, or a pointer to a file elsewhere."""
    with path.open("rb") as file:
        head = file.read(512).lstrip().lower()
    if head.startswith(b"version https://git-lfs"):
        raise ConceptFileError(
            f"'{name}' is a pointer of Git LFS, a text of a few lines that stands for the file. "
            "Expected the file itself: download it with the button on its page, or by git lfs pull."
        )
    if head.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise ConceptFileError(
            f"'{name}' is a web page that was saved under a file's name. Expected the file itself: "
            "open the link in a browser, sign in if it asks for that, and download it again."
        )


def plain_tensors(values: Any) -> dict[str, Tensor]:
    """The tensors among a dictionary's values, by key."""
    if not isinstance(values, Mapping):
        return {}
    if isinstance(values.get("_parameters"), Mapping):  # an object of the oldest A1111 files
        values = values["_parameters"]
    return {k: v for k, v in values.items() if isinstance(k, str) and torch.is_tensor(v)}


def _safe_tensors(path: Path, name: str, header_only: bool) -> dict[str, Tensor]:
    header = read_header(path, name).tensors
    wanted = set(_worth_reading(header))
    if header_only:
        return {key: tensor for key, tensor in header.items() if key in wanted}
    return read_tensors(path, name, finite=False, wanted=wanted).tensors


def _worth_reading(keys: Iterable[str]) -> list[str]:
    """Of a LoRA that carries words along, which may be large, only the words."""
    words = [key for key in keys if key.startswith("bundle_emb.")]
    return words or list(keys)
