"""Safetensors files: written with a digest, read as copies that the file can change under.

`safe_open` maps a file into memory. A program that writes over it would then change the numbers of
a concept in use, and one that cuts it off would end ComfyUI. So a file is read as a whole; where
its description is enough, no more than its header is.
"""

import json
import math
import os
import struct
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from safetensors.torch import save
from torch import Tensor

from .disk import write_new, write_whole
from .errors import ConceptFileError, shown
from .tensors import digest_of, fill, is_finite

DIGEST = "sha256"
"""Key in the metadata: digest of all tensors and of the other metadata. Files of other programs and
of earlier versions have none."""

CHECKED = "checked_by"
"""Key in the metadata that says so: a file with it has lost its digest if it has none."""

_MOST_HEADER = 8 * 2**20  # bytes; that of a LoRA for SDXL has 0.3 MiB
_MOST_TENSORS = 10_000  # that LoRA has 2,400
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}


class TensorFile(NamedTuple):
    """metadata: text by key; tensors: by name, on `meta` where only the header was read"""

    metadata: dict[str, str]
    tensors: dict[str, Tensor]


def write_tensors(
    tensors: Mapping[str, Tensor],
    path: Path,
    metadata: Mapping[str, str] | None = None,
    new: bool = False,
) -> None:
    """Write tensors and metadata; the file appears whole or not at all.

    metadata: the digest is added to it; None for a file without any
    new: never over another file
    Raises DiskError, and with `new` NameTakenError, each with a sentence.
    """
    tensors = _apart({name: t.detach().cpu().contiguous() for name, t in tensors.items()})
    if metadata is not None:
        metadata = {**metadata, CHECKED: DIGEST}
        metadata[DIGEST] = digest_of(tensors, metadata)
    data = _ordered(save(tensors, metadata and dict(metadata)))
    (write_new if new else write_whole)(data, path)


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors that share no memory, which safetensors refuses: files of other programs have some
    that do."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        memory = tensor.untyped_storage().data_ptr()
        found[name] = tensor.clone() if memory in seen else tensor
        seen.add(memory)
    return found


def read_tensors(
    path: Path, name: str, finite: bool = True, wanted: Container[str] | None = None
) -> TensorFile:
    """Read a file into memory and check its digest, if it has one.

    name: how the user calls the file; finite: refuse NaN and infinite numbers, too
    wanted: names of the tensors to read; None: all, and only then the digest can be checked
    Raises ConceptFileError for a damaged file.
    """
    try:
        with path.open("rb") as file:
            metadata, places = _read_header(file)
            data = file.tell()
            tensors = {}
            for key, (tensor, start) in places.items():
                if wanted is None or key in wanted:
                    file.seek(data + start)
                    tensors[key] = torch.empty_like(tensor, device="cpu")
                    fill(tensors[key], file)
    except Exception as error:  # the format has many ways to be wrong
        raise _damaged(name, error) from error
    if wanted is None and not _is_what_was_written(metadata, tensors):
        raise ConceptFileError(
            f"'{name}' is damaged: it does not hold what was written into it. Copy or download it "
            f"again. If it was changed on purpose, remove {DIGEST} and {CHECKED} from its metadata."
        )
    wrong = next((key for key, t in tensors.items() if finite and not is_finite(t)), None)
    if wrong is not None:
        raise ConceptFileError(
            f"'{name}' holds NaN or infinite numbers in '{shown(wrong)}'. Its training went wrong "
            "or the file is damaged: train it again, or copy or download it again."
        )
    return TensorFile(metadata, tensors)


def _is_what_was_written(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> bool:
    others = {key: value for key, value in metadata.items() if key != DIGEST}
    if DIGEST in metadata:
        return metadata[DIGEST] == digest_of(tensors, others)
    return CHECKED not in others and not any(map(_is_damaged_name, others))


def _is_damaged_name(key: str) -> bool:
    """Is it DIGEST but for a letter or two? Earlier versions wrote a digest without saying so."""
    differing = sum(one != other for one, other in zip(key, DIGEST, strict=False))
    return len(key) == len(DIGEST) and differing <= 2


def read_header(path: Path, name: str) -> TensorFile:
    """What a file says of itself, without its numbers. Raises ConceptFileError when damaged."""
    try:
        with path.open("rb") as file:
            metadata, places = _read_header(file)
    except Exception as error:
        raise _damaged(name, error) from error
    return TensorFile(metadata, {key: tensor for key, (tensor, _) in places.items()})


Places = dict[str, tuple[Tensor, int]]
"""Tensors on `meta` by name, and where their numbers begin behind the header."""


def _read_header(file: BinaryIO) -> tuple[dict[str, str], Places]:
    size = file.seek(0, os.SEEK_END) - 8
    if size < 0:
        raise ValueError("it holds nothing")
    file.seek(0)
    (length,) = struct.unpack("<Q", file.read(8))
    if length > size:
        raise ValueError("its header is cut off")
    if length > _MOST_HEADER:
        raise ValueError("its header is larger than any that is known")
    entries = json.loads(file.read(length).decode("utf-8"))
    metadata = entries.pop("__metadata__", None) or {}
    for text in (*metadata, *metadata.values(), *entries):
        text.encode("utf-8")  # refuses what is no text, and halves of characters
    if len(entries) > _MOST_TENSORS:
        raise ValueError("it has more tensors than any that is known")
    places = {key: _place(entry) for key, entry in entries.items()}
    end = 0
    for tensor, start in sorted(places.values(), key=lambda place: (place[1], place[0].nbytes)):
        if start != end:
            raise ValueError("its tensors do not lie side by side")
        end += tensor.nbytes
    if end != size - length:
        raise ValueError("it is shorter or longer than it says")
    return metadata, places


def _place(entry: Any) -> tuple[Tensor, int]:
    shape, (start, end) = entry["shape"], entry["data_offsets"]
    dtype = _DTYPES[entry["dtype"]]
    numbers = (*shape, start, end)
    if len(numbers) > 10 or any(type(n) is not int or not 0 <= n < 2**48 for n in numbers):
        raise ValueError("a tensor without a shape")
    if end - start != math.prod(shape) * dtype.itemsize:
        raise ValueError("a tensor of another size")
    return torch.empty(shape, dtype=dtype, device="meta"), start


def _damaged(name: str, error: Exception) -> ConceptFileError:
    return ConceptFileError(
        f"'{name}' is no whole safetensors file ({shown(error) or type(error).__name__}). It may "
        "be cut off: copy or download it again."
    )


def _ordered(data: bytes) -> bytes:
    """The same file with its metadata in order, which safetensors shuffles at every save."""
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    if "__metadata__" in header:
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of 8
    return struct.pack("<Q", len(text)) + text + data[8 + length :]
