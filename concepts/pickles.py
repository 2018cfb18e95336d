"""Tensors of ``.pt``, ``.bin`` and ``.pth`` files, read without unpickling anything.

`torch.load(weights_only=True)` would run no code either, but it lets a small file ask for a lot of
memory: a `bytearray` of 8 GiB, a tensor of 8 GiB over a storage of one number, an archive that
unpacks to more than the disk holds. So the few instructions that such files need are followed here:
nothing is imported, nothing is called, and whatever takes memory is measured against the file.
"""

import io
import math
import pickletools
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from .errors import ConceptFileError, shown
from .tensors import fill

_LEGACY = 0x1950A86A20F9469CFC6C, 1001  # magic number and version of files without an archive
_MOST_STEPS = 200_000  # SAM's ViT-H takes 15,000
_MOST_BYTES = 2 * 2**20  # of instructions, or of an archive's list of contents
# All tensors against the file: tied weights share their numbers, and the official CatVersion
# adapter has the same ones under four names.
_MOST_COPIES = 8

_STORAGES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class _Refused(Exception):
    """The file names something that is no tensor and no plain value."""


class _Damaged(Exception):
    """The file cannot be what it says."""


@dataclass(frozen=True)
class _Name:
    """A function or class that a file names. It stands for itself: nothing is looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


def read_pickle(path: Path, name: str, header_only: bool = False) -> Any:
    """The content of a file: dictionaries, lists, tuples, texts, numbers and tensors in memory.

    name: how the user calls the file
    header_only: tensors are on the device `meta`, with shape and type and no numbers
    Raises ConceptFileError for anything else in the file, and for a damaged one.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            reader = _Archive if file.read(4) == b"PK\x03\x04" else _Legacy
            file.seek(0)
            return reader(file, size, header_only).read()
    except _Refused as error:
        raise ConceptFileError(
            f"'{name}' was refused: it holds more than plain tensors ({shown(error)}), which could "
            "run code on this computer, or it is damaged. Nothing in it was run. Ask its author "
            "for a .safetensors."
        ) from error
    except Exception as error:  # the format has many ways to be wrong
        raise ConceptFileError(
            f"'{name}' cannot be read ({shown(error) or type(error).__name__}). It may be cut off: "
            "copy or download it again."
        ) from error


@dataclass
class _Storage:
    """Numbers that tensors are views of; filled after the instructions that name them."""

    key: str
    numbers: Tensor


@dataclass
class _Reader:
    """What both layouts share: the storages that were named, and what they may take."""

    file: BinaryIO
    size: int
    header_only: bool
    storages: dict[str, _Storage] = field(default_factory=dict)
    taken: int = 0  # bytes of all storages
    viewed: int = 0  # bytes of all tensors

    def named(self, identity: Any) -> Any:
        """What a file keeps outside of its instructions: a storage, or the source of a class."""
        if isinstance(identity, tuple) and len(identity) > 1 and identity[0] == "module":
            return identity[1]
        return self.storage(identity)

    def storage(self, identity: Any) -> _Storage:
        kind, dtype_name, key, _, count, *rest = identity
        dtype = _STORAGES.get(getattr(dtype_name, "name", ""))
        if kind != "storage" or dtype is None or not isinstance(key, str) or any(rest):
            raise _Refused(f"a storage of {dtype_name}")
        if key not in self.storages:
            if type(count) is not int or count < 0:
                raise _Damaged("a storage without a size")
            self.taken += count * dtype.itemsize
            if self.taken > self.size:
                raise _Damaged("it says that it holds more than it does")
            device = "meta" if self.header_only else "cpu"
            self.storages[key] = _Storage(key, torch.empty(count, dtype=dtype, device=device))
        return self.storages[key]

    def tensor(self, storage: Any, offset: Any, shape: Any, stride: Any, *_: Any) -> Tensor:
        """A view, which lies in its storage and has no more numbers than that."""
        if not isinstance(storage, _Storage) or not len(shape) == len(stride) <= 8:
            raise _Damaged("a tensor without a shape")
        if any(type(n) is not int or not 0 <= n < 2**48 for n in (offset, *shape, *stride)):
            raise _Damaged("a tensor without a shape")
        count = math.prod(shape)
        last = offset + sum((n - 1) * s for n, s in zip(shape, stride, strict=True))
        whole = storage.numbers.numel()
        if count > whole or (count and last >= whole):
            raise _Damaged("a tensor is larger than what is stored of it")
        self._count(count * storage.numbers.element_size())
        return storage.numbers.as_strided(shape, stride, offset if count else 0)

    def encoded(self, text: Any, *_: Any) -> bytes:
        """Bytes, which files of protocol 2 hold as a text. A text may be named again and again."""
        self._count(len(text))
        return text.encode("latin-1")

    def tensor_of_array(self, array: Any, *_: Any) -> Tensor:
        """A tensor from a Mac, which older versions of torch wrote as an array of numpy."""
        if not isinstance(array, _Array) or array.tensor is None:
            raise _Damaged("an array without numbers")
        return array.tensor

    def build_array(self, array: "_Array", state: Any) -> None:
        """Put the bytes of an array into place."""
        _, shape, dtype, in_columns, content, *_ = state
        if not isinstance(dtype, _ArrayType) or in_columns or not isinstance(content, bytes):
            raise _Refused("an array of other things than numbers")
        self._count(len(content))
        numbers = torch.frombuffer(bytearray(content), dtype=dtype.dtype)
        array.tensor = numbers.reshape([int(n) for n in shape])

    def _count(self, count: int) -> None:
        self.viewed += count
        if self.viewed > _MOST_COPIES * self.size:
            raise _Damaged("its tensors are larger than the file")


class _Archive(_Reader):
    """The layout since torch 1.6: a zip archive with a file for each storage."""

    def read(self) -> Any:
        with zipfile.ZipFile(_InPieces(self.file)) as archive:
            entries = archive.infolist()
            if sum(entry.file_size for entry in entries) > self.size:
                raise _Damaged("it unpacks to more than it has")
            root = next(e.filename for e in entries if e.filename.endswith("data.pkl"))
            root = root.removesuffix("data.pkl")
            order = f"{root}byteorder"
            if order in archive.namelist() and archive.read(order) != b"little":
                raise _Damaged("its numbers are big-endian")
            if archive.getinfo(f"{root}data.pkl").file_size > _MOST_BYTES:
                raise _Damaged("too many instructions")
            content = _Machine(self).run(io.BytesIO(archive.read(f"{root}data.pkl")))
            for storage in self.storages.values():
                entry = archive.getinfo(f"{root}data/{storage.key}")
                if entry.file_size != storage.numbers.nbytes:
                    raise _Damaged("a storage of another size")
                if not self.header_only:
                    with archive.open(entry) as file:
                        fill(storage.numbers, file)
        return content


class _InPieces:
    """A file that gives no large piece at once: an archive's list of contents cannot be one."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, count: int = -1) -> bytes:
        if count > _MOST_BYTES:
            raise _Damaged("too many files in an archive")
        return self._file.read(count)


class _Legacy(_Reader):
    """The layout before: five pickles, then the numbers of all storages, one after another."""

    def read(self) -> Any:
        start = io.BytesIO(self.file.read(_MOST_BYTES))
        machine = _Machine(self)
        if (machine.run(start), machine.run(start)) != _LEGACY:
            raise _Damaged("it is no file of torch.save")
        system = machine.run(start)
        if not isinstance(system, dict) or system.get("little_endian") is not True:
            raise _Damaged("its numbers are big-endian")
        content = machine.run(start)
        keys = machine.run(start)
        self.file.seek(start.tell())
        for key in keys if isinstance(keys, list) else []:
            (count,) = struct.unpack("<q", self.file.read(8))
            numbers = self.storages[key].numbers
            if count != numbers.numel():
                raise _Damaged("a storage of another size")
            if self.header_only:
                self.file.seek(numbers.nbytes, io.SEEK_CUR)
            else:
                fill(numbers, self.file)
        if set(self.storages) != set(keys) or self.file.tell() > self.size:
            raise _Damaged("a storage is missing")
        return content


_MARK = object()


class _Attributes(dict[Any, Any]):
    """Stands for an object."""


@dataclass
class _Array:
    """Stands for an array of numpy; empty until it is built."""

    tensor: Tensor | None = None


class _ArrayType:
    """Stands for numpy's type of a number, such as ``f4``."""

    def __init__(self, _: _Reader, code: Any, *__: Any) -> None:
        if code not in _NUMBERS:
            raise _Refused(f"an array of {code}")
        self.dtype = _NUMBERS[code]


_NUMBERS = {
    "f2": torch.float16,
    "f4": torch.float32,
    "f8": torch.float64,
    "i1": torch.int8,
    "i2": torch.int16,
    "i4": torch.int32,
    "i8": torch.int64,
    "u1": torch.uint8,
    "b1": torch.bool,
}


class _Machine:
    """Follows the instructions of a pickle, as far as files of tensors need them."""

    def __init__(self, reader: _Reader) -> None:
        self.reader = reader
        self.steps = 0

    def run(self, stream: BinaryIO) -> Any:
        """The value that the instructions make, up to their STOP."""
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        for opcode, argument, _ in pickletools.genops(stream):
            self.steps += 1
            if self.steps > _MOST_STEPS:
                raise _Damaged("too many instructions")
            if opcode.name == "STOP":
                return self.stack.pop()
            if opcode.name in _PUSHED:
                self.stack.append(argument)
            elif opcode.name in _STEPS:
                _STEPS[opcode.name](self, argument)
            else:
                raise _Refused(f"the instruction {opcode.name}")
        raise _Damaged("it ends too soon")

    def since_mark(self) -> list[Any]:
        at = next(n for n in reversed(range(len(self.stack))) if self.stack[n] is _MARK)
        values = self.stack[at + 1 :]
        del self.stack[at:]
        return values

    def last(self, count: int) -> list[Any]:
        values = self.stack[-count:]
        del self.stack[-count:]
        return values

    def named(self, written: str) -> None:
        module, _, name = written.partition(" ")
        self.name(module, name)

    def name(self, module: Any, name: Any) -> None:
        found = _Name(str(module), str(name))
        known = str(found) in _CALLS or str(found) in _CLASSES
        if not known and found.name not in _VALUES.get(found.module, ()):
            raise _Refused(str(found))
        self.stack.append(found)

    def call(self) -> None:
        function, arguments = self.last(2)
        if not isinstance(function, _Name) or str(function) not in _CALLS:
            raise _Refused(f"a call of {function}")
        self.stack.append(_CALLS[str(function)](self.reader, *arguments))

    def make(self) -> None:
        kind, _ = self.last(2)
        if not isinstance(kind, _Name) or str(kind) not in _CLASSES:
            raise _Refused(f"an object of {kind}")
        self.stack.append(_Attributes())

    def build(self) -> None:
        """Take an object's attributes; those of a dictionary tell of versions only."""
        (state,) = self.last(1)
        built = self.stack[-1]
        if isinstance(built, _Attributes) and isinstance(state, dict):
            built.update(state)
        elif isinstance(built, _Array):
            self.reader.build_array(built, state)
        elif isinstance(built, _ArrayType) and ">" in state[1:2]:
            raise _Damaged("its numbers are big-endian")

    def put(self, target: Any, entries: list[Any]) -> None:
        if not isinstance(target, dict) or len(entries) % 2:
            raise _Damaged("entries without a dictionary")
        for key, value in zip(entries[::2], entries[1::2], strict=True):
            # of a tuple in tuples in tuples, Python's hash overflows the processor's stack
            if not isinstance(key, str | int | float | bytes | None):
                raise _Refused(f"a key of type {type(key).__name__}")
            target[key] = value

    def put_since_mark(self) -> None:
        entries = self.since_mark()
        self.put(self.stack[-1], entries)

    def append(self, values: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise _Damaged("entries without a list")
        self.stack[-1].extend(values)


Step = Callable[[_Machine, Any], Any]


def _pushed(make: Callable[[_Machine], Any]) -> Step:
    return lambda machine, _: machine.stack.append(make(machine))


def _dictionary(machine: _Machine) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    machine.put(made, machine.since_mark())
    return made


def _ordered(_: _Reader, pairs: Any = ()) -> dict[Any, Any]:
    if not isinstance(pairs, list | tuple) or any(
        not isinstance(pair, list | tuple) or len(pair) != 2 or not isinstance(pair[0], str)
        for pair in pairs
    ):
        raise _Damaged("a dictionary of no pairs")
    return dict(pairs)


_STEPS: dict[str, Step] = {
    **dict.fromkeys(("PROTO", "FRAME"), lambda machine, _: None),
    "MARK": _pushed(lambda machine: _MARK),
    "NONE": _pushed(lambda machine: None),
    "NEWTRUE": _pushed(lambda machine: True),
    "NEWFALSE": _pushed(lambda machine: False),
    "EMPTY_DICT": _pushed(lambda machine: {}),
    "EMPTY_LIST": _pushed(lambda machine: []),
    "EMPTY_TUPLE": _pushed(lambda machine: ()),
    "TUPLE": _pushed(lambda machine: tuple(machine.since_mark())),
    "TUPLE1": _pushed(lambda machine: tuple(machine.last(1))),
    "TUPLE2": _pushed(lambda machine: tuple(machine.last(2))),
    "TUPLE3": _pushed(lambda machine: tuple(machine.last(3))),
    "LIST": _pushed(lambda machine: machine.since_mark()),
    "DICT": _pushed(_dictionary),
    "POP": lambda machine, _: machine.stack.pop(),
    "POP_MARK": lambda machine, _: machine.since_mark(),
    "APPEND": lambda machine, _: machine.append(machine.last(1)),
    "APPENDS": lambda machine, _: machine.append(machine.since_mark()),
    "SETITEM": lambda machine, _: machine.put(machine.stack[-3], machine.last(2)),
    "SETITEMS": lambda machine, _: machine.put_since_mark(),
    **dict.fromkeys(
        ("PUT", "BINPUT", "LONG_BINPUT"),
        lambda machine, at: machine.memo.__setitem__(at, machine.stack[-1]),
    ),
    "MEMOIZE": lambda machine, _: machine.memo.__setitem__(len(machine.memo), machine.stack[-1]),
    **dict.fromkeys(
        ("GET", "BINGET", "LONG_BINGET"),
        lambda machine, at: machine.stack.append(machine.memo[at]),
    ),
    "GLOBAL": lambda machine, written: machine.named(written),
    "STACK_GLOBAL": lambda machine, _: machine.name(*machine.last(2)),
    "REDUCE": lambda machine, _: machine.call(),
    "NEWOBJ": lambda machine, _: machine.make(),
    "BUILD": lambda machine, _: machine.build(),
    "BINPERSID": lambda machine, _: machine.stack.append(machine.reader.named(*machine.last(1))),
}
_PUSHED = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "BINFLOAT"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES"),
}

_NUMPY = ("numpy.core.multiarray", "numpy._core.multiarray")
"""Before and since numpy 2."""

_CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered,
    "torch._utils._rebuild_tensor": _Reader.tensor,
    "torch._utils._rebuild_tensor_v2": _Reader.tensor,
    "torch._utils._rebuild_parameter": lambda _, tensor, *__: tensor,
    "torch.Size": lambda _, sizes: tuple(sizes),
    "torch.device": lambda _, *named: named,
    "_codecs.encode": _Reader.encoded,
    **dict.fromkeys(("builtins.bytes", "__builtin__.bytes"), lambda _: b""),
    **dict.fromkeys(("builtins.set", "__builtin__.set"), lambda _, *values: [*values]),
    "torch._utils._rebuild_device_tensor_from_numpy": _Reader.tensor_of_array,
    **dict.fromkeys((f"{core}._reconstruct" for core in _NUMPY), lambda *_: _Array()),
    "numpy.dtype": _ArrayType,
    # what trainers note beside the vectors and nothing here needs: steps, losses, times
    **dict.fromkeys((f"{core}.scalar" for core in _NUMPY), lambda *_: None),
    **dict.fromkeys(
        (f"datetime.{name}" for name in ("datetime", "date", "timedelta")), lambda *_: None
    ),
}
"""What a file may call, and what is done instead."""

_CLASSES = {"torch.nn.modules.container.ParameterDict"}
"""Objects that a file may hold, which become dictionaries of their attributes."""

_VALUES = {
    "torch": {*_STORAGES, "float32", "float16", "bfloat16", "float64", "int64", "int32"},
    "numpy": {"ndarray"},
}
"""What else a file may name."""
