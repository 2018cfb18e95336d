"""Damaged and crafted files: what a disk, a network or an enemy makes of a valid one."""

import copy
import io
import json
import random
import struct
import zipfile
from typing import Any

HOSTILE: list[Any] = [
    *(None, True, -1, 0, 1, 2**31, 2**63, 10**30, 1e308, float("nan"), float("inf")),
    *("", " ", "x" * 10_000, "9" * 5_000, "\x00", "../../x", "<me>", "²", "猫", "\u202e", "nan"),
    *([], {}, [[[[]]]], {"a": {"b": []}}, [1, 2, 3], ["x"]),
]


def hostile(rng: random.Random) -> Any:
    """One of them, of its own: what a case puts into it stays in that case."""
    return copy.deepcopy(rng.choice(HOSTILE))


def damaged(rng: random.Random, data: bytes) -> bytes:
    """A few bits flipped, bytes set, pieces cut out, put in, doubled or zeroed, or the end lost."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 1, 2, 5])):
        at = rng.randrange(len(changed) + 1)
        if rng.random() < 0.5:  # headers and lists of contents are small: they get their part
            at = min(at, rng.randrange(1024)) if rng.random() < 0.5 else at
        length = rng.choice([1, 1, 4, 8, 64, 1000])
        piece = changed[at : at + length]
        how = rng.randrange(6)
        if how == 0 and at < len(changed):
            changed[at] ^= 1 << rng.randrange(8)
        elif how == 1:
            changed[at : at + length] = rng.randbytes(len(piece))
        elif how == 2:
            del changed[at : at + length]
        elif how == 3:
            changed[at:at] = rng.choice([piece, rng.randbytes(length), bytes(length)])
        elif how == 4:
            changed[at : at + length] = bytes(len(piece))
        else:
            del changed[at:]
    return bytes(changed)


def crafted_safetensors(rng: random.Random, data: bytes) -> bytes:
    """A valid layout whose description says something else."""
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    metadata = header.get("__metadata__", {})
    metadata.pop("sha256", None)
    for _ in range(rng.choice([1, 1, 2, 4])):
        how = rng.randrange(4)
        if how == 0 and metadata:
            key = rng.choice(sorted(metadata))
            metadata[key] = _metadata_value(rng, metadata[key])
        elif how == 1:
            key = rng.choice(sorted(header))
            header[key] = rng.choice([*copy.deepcopy(HOSTILE), _entry(rng)])
        elif how == 2:
            name = rng.choice(sorted(header))
            header[rng.choice([name.upper(), name + ".up", name[:-1], "word", "x" * 500])] = (
                header.pop(name)
            )
        else:
            key = rng.choice(sorted(header))
            if isinstance(header[key], dict) and header[key]:
                inner = rng.choice(sorted(header[key]))
                header[key][inner] = hostile(rng)
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + length :]


def _metadata_value(rng: random.Random, text: Any) -> Any:
    """Text as metadata must be, or not; JSON within is changed inside."""
    try:
        value = json.loads(text)
    except (TypeError, ValueError):
        value = None
    if isinstance(value, dict) and rng.random() < 0.8:
        return json.dumps(_changed_inside(rng, value))
    return rng.choice([str(hostile(rng)), hostile(rng)])


def _changed_inside(rng: random.Random, value: dict[str, Any]) -> dict[str, Any]:
    key = rng.choice([*sorted(value), "encoder", "left_out"])
    inner = value.get(key)
    if isinstance(inner, dict) and inner and rng.random() < 0.7:
        return {**value, key: _changed_inside(rng, inner)}
    return {**value, key: hostile(rng)}


def _entry(rng: random.Random) -> dict[str, Any]:
    shape = [rng.choice([0, 1, 2, 64, 768, 2**20, 2**40]) for _ in range(rng.randrange(4))]
    start = rng.choice([0, 0, 4, 2**40])
    return {
        "dtype": rng.choice(["F32", "F16", "I64", "BOOL", "F8_E5M2", "X9"]),
        "shape": shape,
        "data_offsets": [start, start + rng.choice([0, 4, 256, 2**40])],
    }


def crafted_archive(rng: random.Random, data: bytes) -> bytes:
    """An archive of torch.save with other instructions, storages or compression, well packed."""
    made = io.BytesIO()
    how = rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(made, "w", how) as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename.endswith("data.pkl") and rng.random() < 0.8:
                content = damaged(rng, content)
            elif rng.random() < 0.2:
                content = rng.choice([b"", content * 2, content[:-1], bytes(len(content))])
            for _ in range(rng.choice([1, 1, 1, 1, 2])):
                new.writestr(entry.filename, content)
    return made.getvalue()


def changed(rng: random.Random, data: bytes) -> bytes:
    """The file damaged, or crafted in the layout that it has."""
    if rng.random() < 0.4:
        return damaged(rng, data)
    if data[:4] == b"PK\x03\x04":
        return crafted_archive(rng, data)
    if data[8:9] == b"{":
        return crafted_safetensors(rng, data)
    return damaged(rng, data)
