"""Pickled files: equal to what torch reads, and small whatever they ask for."""

import io
import pickle
import struct
import subprocess
import sys
import textwrap
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from personalize.concepts.errors import ConceptFileError
from personalize.concepts.pickles import read_pickle

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8]
DTYPES += [torch.int32, torch.int16, torch.int8, torch.bool]


@st.composite
def tensors(draw):
    """Tensors of any type, whole or views: transposed, cut, every second row."""
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    tensor = torch.randint(0, 100, shape).to(draw(st.sampled_from(DTYPES)))
    view = draw(st.sampled_from(["whole", "transposed", "cut", "every second"]))
    if view == "transposed":
        return tensor.T if tensor.ndim == 2 else tensor
    if tensor.ndim and len(tensor) > 1 and view != "whole":
        return tensor[1:] if view == "cut" else tensor[::2]
    return tensor


PLAIN = st.none() | st.booleans() | st.integers() | st.text(max_size=20)
PLAIN |= st.floats(allow_nan=False) | st.binary(max_size=20)
CONTENT = st.recursive(
    PLAIN | tensors(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=4)
        | st.dictionaries(st.text(max_size=8), inner, max_size=4).map(OrderedDict)
    ),
    max_leaves=12,
)


def assert_same(ours, theirs):
    if torch.is_tensor(theirs):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
        assert ours.is_meta or torch.equal(ours, theirs)
    elif isinstance(theirs, dict):
        assert list(ours) == list(theirs)
        for key, value in theirs.items():
            assert_same(ours[key], value)
    elif isinstance(theirs, list | tuple):
        assert type(ours) is type(theirs) and len(ours) == len(theirs)
        for mine, other in zip(ours, theirs, strict=True):
            assert_same(mine, other)
    else:
        assert ours == theirs and type(ours) is type(theirs)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("pickles") / "file.pt"


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("header_only", [False, True])
@settings(max_examples=60, deadline=None)
@given(content=CONTENT)
def test_reads_what_torch_reads(zipped, header_only, file, content):
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    ours = read_pickle(file, "file.pt", header_only)
    assert_same(ours, torch.load(file, weights_only=False))


def test_tied_weights_stay_tied(file):
    weight = torch.rand(100)
    torch.save({"one": weight, "two": weight}, file)
    read = read_pickle(file, "file.pt")
    assert read["one"].data_ptr() == read["two"].data_ptr()


def test_what_was_read_is_a_copy(file):
    torch.save({"word": torch.ones(1000)}, file)
    word = read_pickle(file, "file.pt")["word"]
    with file.open("r+b") as opened:
        opened.truncate(100)
    assert torch.equal(word, torch.ones(1000))


@settings(max_examples=300, deadline=None)
@given(data=st.data(), zipped=st.booleans())
def test_a_changed_file_is_read_or_refused(file, data, zipped):
    """One byte set, a piece cut out, or the end lost: a sentence or plain values, nothing else."""
    content = {"word": torch.rand(3, 8), "step": 7, "parts": [torch.ones(2).half()]}
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    whole = bytearray(file.read_bytes())
    at = data.draw(st.integers(0, len(whole) - 1))
    change = data.draw(st.sampled_from(["set", "cut", "end"]))
    if change == "set":
        whole[at] = data.draw(st.integers(0, 255))
    elif change == "cut":
        del whole[at : at + data.draw(st.integers(1, 50))]
    else:
        del whole[at:]
    file.write_bytes(whole)
    assert_read_or_refused(file)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200))
def test_any_instructions_are_read_or_refused(file, instructions):
    file.write_bytes(archive(instructions))
    assert_read_or_refused(file)
    file.write_bytes(instructions)
    assert_read_or_refused(file)


def assert_read_or_refused(file):
    said = "'file.pt' reads."
    try:
        read_pickle(file, "file.pt")
    except ConceptFileError as error:
        said = str(error)
    assert "'file.pt'" in said and said.endswith(".") and len(said) < 400


def archive(instructions, storages=None, compression=zipfile.ZIP_STORED):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", compression) as file:
        file.writestr("archive/data.pkl", instructions)
        for key, content in (storages or {}).items():
            file.writestr(f"archive/data/{key}", content)
    return data.getvalue()


def view(count, shape, stride):
    """Instructions of a tensor of a shape over a storage of so many numbers."""
    content = io.BytesIO()
    writer = pickle.Pickler(content, 2)
    writer.persistent_id = lambda x: x if isinstance(x, tuple) and x[:1] == ("storage",) else None
    identity = ("storage", torch.FloatStorage, "0", "cpu", count)

    class View:
        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, (identity, 0, shape, stride, False, {})

    writer.dump({"word": View()})
    return content.getvalue()


def overlapped():
    """An archive whose every entry is the same piece of the file."""
    with zipfile.ZipFile(io.BytesIO(archive(b"N.", {"0": bytes(2**20)}))) as one:
        entry = one.infolist()[1]
        data = bytearray(one.fp.getvalue())
    at = data.rfind(b"PK\x01\x02")
    listed = bytes(data[at : data.rfind(b"PK\x05\x06")])
    del data[at:]
    entries = 0
    start = len(data)
    for _ in range(20_000):
        data += listed
        entries += 1
    data += struct.pack(
        "<IHHHHIIH", 0x06054B50, 0, 0, entries, entries, len(data) - start, start, 0
    )
    assert entry.file_size == 2**20
    return bytes(data)


def again_and_again(array):
    """A text of 1 MiB, of which a thousand byte strings or arrays are made."""
    text = b"X" + struct.pack("<I", 2**20) + b"a" * 2**20
    made = b"c_codecs\nencode\nh\x00\x85R"
    if array:
        state = b"(K\x01J\x00\x00\x10\x00\x85cnumpy\ndtype\nU\x02u1\x85R\x89" + made + b"t"
        made = b"cnumpy.core.multiarray\n_reconstruct\n)R" + state + b"b"
    return b"\x80\x02" + text + b"q\x000(" + made * 1000 + b"l."


BOMBS = {
    "a tensor without strides": archive(view(1, (2**16, 2**16), (0, 0)), {"0": bytes(4)}),
    "a storage that is not there": archive(view(2**33, (2**33,), (1,)), {"0": bytes(4)}),
    "a storage that is shorter": archive(view(2**33, (2**33,), (1,)), {"0": bytes(2**10)}),
    "a byte array": archive(b"\x80\x02cbuiltins\nbytearray\n\x8a\x05\x00\x00\x00\x00\x02\x85R."),
    "a byte array of protocol 5": archive(b"\x80\x05\x96" + struct.pack("<Q", 2**33) + b"."),
    "a long text": archive(b"\x80\x04\x8d" + struct.pack("<Q", 2**33) + b"."),
    "a place in the memo": archive(b"\x80\x02Nr\xff\xff\xff\xff."),
    "an archive of zeros": archive(b"N.", {"0": bytes(2**28)}, zipfile.ZIP_DEFLATED),
    "instructions of zeros": archive(bytes(2**28), {}, zipfile.ZIP_DEFLATED),
    "files over each other": overlapped(),
    "a million lists": archive(b"\x80\x02" + b"]" * 10**6 + b"."),
    "a text encoded again and again": archive(again_and_again(array=False)),
    "an array built again and again": archive(again_and_again(array=True)),
    "lists in lists": archive(b"\x80\x02" + b"]" * 90_000 + b"a" * 89_999 + b"."),
    "tuples in tuples as a key": archive(b"\x80\x02})" + b"\x85" * 150_000 + b"Ns."),
    "legacy: a storage that is not there": b"".join(
        [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True})]
        + [view(2**33, (2**33,), (1,)), pickle.dumps(["0"], 2), struct.pack("<q", 2**33)]
    ),
}

READ = """
    import resource, sys
    from pathlib import Path
    import runpy
    runpy.run_path({alias!r})["register_pack"]()
    from personalize.concepts.errors import ConceptFileError
    from personalize.concepts.pickles import read_pickle
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 400 * 2**20,) * 2)
    for path in sorted(Path({folder!r}).iterdir()):
        for header_only in (False, True):
            try:
                content = read_pickle(path, path.name, header_only)
                print(path.name, "read", type(content).__name__)
            except ConceptFileError as error:
                assert "MemoryError" not in str(error), error
                print(path.name, "refused")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory of a process")
def test_small_files_take_little_memory(tmp_path):
    """In a process that may take 400 MiB more than it had."""
    for number, content in enumerate(BOMBS.values()):
        (tmp_path / f"{number:02d}").write_bytes(content)
    alias = Path(__file__).parents[2] / "cli" / "run.py"
    script = textwrap.dedent(READ.format(alias=str(alias), folder=str(tmp_path)))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert len(lines) == 2 * len(BOMBS)
    read = {int(line.split()[0]) for line in lines if " read " in line}
    assert {list(BOMBS)[n] for n in read} <= {"lists in lists", "a place in the memo"}
