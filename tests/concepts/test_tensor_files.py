"""Safetensors files: damage is noticed, and nothing that was read changes with its file."""

import json
import os
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from personalize.concepts.errors import ConceptFileError
from personalize.concepts.tensor_files import (
    CHECKED,
    DIGEST,
    read_header,
    read_tensors,
    write_tensors,
)
from personalize.concepts.tensors import digest_of
from safetensors.torch import load_file, save, save_file

TENSORS = {
    "word": torch.arange(6.0).view(2, 3),
    "half": torch.ones(3).half(),
    "none": torch.empty(0, 4),
    "number": torch.tensor(7),
    "fp8": torch.ones(2).to(torch.float8_e4m3fn),
}
METADATA = {"format": "personalize/1", "name": "Grüße, 猫", "empty": ""}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("files") / "file.safetensors"


def assert_same(ours, theirs):
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert (ours[name].dtype, ours[name].shape) == (tensor.dtype, tensor.shape)
        assert ours[name].is_meta or torch.equal(ours[name].view(-1), tensor.view(-1))


def test_round_trip(path):
    write_tensors(TENSORS, path, METADATA)
    file, header = read_tensors(path, "file"), read_header(path, "file")
    assert_same(file.tensors, TENSORS)
    assert_same(header.tensors, TENSORS)
    assert all(tensor.is_meta for tensor in header.tensors.values())
    assert file.metadata == header.metadata
    assert {k: v for k, v in file.metadata.items() if k not in (CHECKED, DIGEST)} == METADATA


def test_tensors_that_share_memory_are_written(path):
    rows = torch.arange(6.0).view(2, 3)
    shared = {"all": rows, "one": rows[0], "other": rows[1], "again": rows}
    write_tensors(shared, path, {})
    assert_same(read_tensors(path, "file").tensors, shared)


def test_files_of_other_programs_have_no_digest(path):
    for metadata in (None, {"made by": "another"}):
        save_file({k: t.clone() for k, t in TENSORS.items()}, path, metadata)
        file = read_tensors(path, "file")
        assert_same(file.tensors, TENSORS)
        assert file.metadata == (metadata or {})
    write_tensors(TENSORS, path)
    assert read_tensors(path, "file").metadata == {}


def test_every_flipped_bit_is_noticed(path):
    """In the tensors, their names, shapes and types, and in the metadata."""
    write_tensors({"word": torch.arange(3.0)}, path, {"step": "1"})
    whole = path.read_bytes()
    read = []
    for at in range(len(whole)):
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[at] ^= 1 << bit
            path.write_bytes(flipped)
            try:
                file = read_tensors(path, "file")
            except ConceptFileError:
                continue
            read.append((at, file))
    for at, file in read:
        assert whole[at : at + 1] == b" "  # white space behind the header says nothing
        assert torch.equal(file.tensors["word"], torch.arange(3.0))
        assert file.metadata["step"] == "1"


@pytest.mark.parametrize("lost", [[DIGEST], [CHECKED], [DIGEST, CHECKED]])
def test_a_lost_digest_is_noticed(path, lost):
    """Also that of an earlier version, which did not say that it has one."""
    write_tensors(TENSORS, path, METADATA)
    metadata = read_header(path, "file").metadata
    garbled = {f"{key[:-1]}~" if key in lost else key: text for key, text in metadata.items()}
    save_file(dict(TENSORS), path, garbled)
    with pytest.raises(ConceptFileError, match="does not hold what was written"):
        read_tensors(path, "file")
    removed = {key: text for key, text in metadata.items() if key not in lost}
    save_file(dict(TENSORS), path, removed)
    if len(lost) == 1:
        with pytest.raises(ConceptFileError, match=f"remove {DIGEST} and {CHECKED}"):
            read_tensors(path, "file")
    else:
        assert_same(read_tensors(path, "file").tensors, TENSORS)


def test_files_of_earlier_versions_are_read(path):
    """The first had no digest, those after it no word of one."""
    save_file(dict(TENSORS), path, METADATA)
    assert_same(read_tensors(path, "file").tensors, TENSORS)
    digest = {DIGEST: digest_of(TENSORS, METADATA)}
    save_file(dict(TENSORS), path, METADATA | digest)
    assert_same(read_tensors(path, "file").tensors, TENSORS)
    save_file(dict(TENSORS), path, METADATA | digest | {"step": "2"})
    with pytest.raises(ConceptFileError, match="does not hold what was written"):
        read_tensors(path, "file")


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_damaged_file_gets_a_sentence(path, data):
    write_tensors(TENSORS, path, METADATA)
    whole = bytearray(path.read_bytes())
    at = data.draw(st.integers(0, len(whole) - 1))
    change = data.draw(st.sampled_from(["set", "cut", "end", "more"]))
    if change == "set":
        whole[at] ^= data.draw(st.integers(1, 255))
    elif change == "cut":
        del whole[at : at + data.draw(st.integers(1, 50))]
    elif change == "end":
        del whole[at:]
    else:
        whole[at:at] = data.draw(st.binary(min_size=1, max_size=50))
    path.write_bytes(whole)
    assert_read_or_refused(path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "I64", "F8_E4M3", "X"]) | JSON,
        "shape": st.lists(st.integers(-1, 2**64), max_size=4) | JSON,
        "data_offsets": st.lists(st.integers(-1, 2**64), max_size=3) | JSON,
    },
)
HEADER = st.dictionaries(st.text(max_size=8), ENTRY | JSON, max_size=3) | JSON


@settings(max_examples=300, deadline=None)
@given(header=HEADER, metadata=st.none() | st.dictionaries(st.text(), st.text()) | JSON)
def test_any_header_gets_a_sentence(path, header, metadata):
    if isinstance(header, dict) and metadata is not None:
        header["__metadata__"] = metadata
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(64))
    assert_read_or_refused(path)


def assert_read_or_refused(path):
    for read in (read_tensors, read_header):
        said = "'file' reads."
        try:
            read(path, "file")
        except ConceptFileError as error:
            said = str(error)
        assert "'file'" in said and said.endswith(".") and len(said) < 400


ODD_HEADERS = {
    "brackets": b'{"a":' * 200_000,
    "digits": b'{"a":{"dtype":"F32","shape":[' + b"9" * 5_000 + b'],"data_offsets":[0,0]}}',
    "half a character": b'{"__metadata__":{"a":"\\ud800"}}',
    "no dictionary": b"[]",
    "numbers": b'{"__metadata__":{"a":1}}',
    "a million tensors": b"{" + b'"a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},' * 200_000,
}


@pytest.mark.parametrize("odd", ODD_HEADERS)
def test_odd_headers(odd, path):
    header = ODD_HEADERS[odd]
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    for read in (read_tensors, read_header):
        with pytest.raises(ConceptFileError, match="'file' is no whole safetensors file"):
            read(path, "file")


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_is_refused(value, path):
    write_tensors({"ok": torch.ones(1), "bad": torch.tensor([1.0, value])}, path, {})
    with pytest.raises(ConceptFileError, match="'file' holds NaN or infinite numbers in 'bad'"):
        read_tensors(path, "file")
    assert read_tensors(path, "file", finite=False).tensors["bad"][0] == 1


def test_what_was_read_stays_when_its_file_changes(path):
    """Written over in place, as cp does, then cut off, which would end a program that maps it."""
    word = torch.arange(100_000.0)
    path.write_bytes(save({"word": word}))
    ours = read_tensors(path, "file").tensors["word"]
    mapped = load_file(path)["word"]
    with path.open("r+b") as file:
        file.seek(-4 * 100_000, os.SEEK_END)
        file.write(bytes(4 * 100_000))
    assert not torch.equal(mapped, word)  # the danger is real
    with path.open("r+b") as file:
        file.truncate(100)
    assert torch.equal(ours, word)


@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory of a process")
def test_a_header_alone_takes_little_memory(tmp_path):
    write_tensors({"word": torch.zeros(2**26)}, tmp_path / "large", {})
    run = Path(__file__).parents[2] / "cli" / "run.py"
    code = textwrap.dedent(f"""
        import resource, runpy
        from pathlib import Path
        runpy.run_path({str(run)!r})["register_pack"]()
        from personalize.concepts.tensor_files import read_header
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 50 * 2**20,) * 2)
        print(read_header(Path({str(tmp_path / "large")!r}), "file").tensors["word"].shape)
    """)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == f"{torch.Size([2**26])}\n", done.stderr
