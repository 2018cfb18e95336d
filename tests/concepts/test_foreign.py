"""Files of other programs as plain values; unsafe ones are refused and run nothing."""

import datetime
import pickle
import zipfile
from pathlib import Path

import numpy
import pytest
import torch
from personalize.concepts.errors import ConceptFileError
from personalize.concepts.files import load_concept
from personalize.concepts.foreign import plain_tensors, read_foreign
from safetensors.torch import save_file

SUFFIXES = ["pt", "bin", "ckpt", "pth"]


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def diffusers(vectors):
    return {"<cat-toy>": vectors}


def a1111(vectors, **more):
    """As AUTOMATIC1111's trainer writes it."""
    return {
        "string_to_token": {"*": 265},
        "string_to_param": {"*": torch.nn.Parameter(vectors)},
        "name": "cat-toy",
        "step": 1500,
        "sd_checkpoint": "81761151",
        "sd_checkpoint_name": "model-v1-5",
    } | more


@pytest.mark.parametrize("torch_1", [True, False])
def test_the_oldest_a1111_files_hold_a_parameter_dict(torch_1, tmp_path):
    """As the original Textual Inversion program wrote them."""
    vectors = random(2, 768)
    parameters = torch.nn.ParameterDict({"*": torch.nn.Parameter(vectors)})
    if torch_1:
        del parameters.__dict__["_keys"]
    path = tmp_path / "cat.pt"
    content = {"string_to_token": {"*": torch.tensor(265)}, "string_to_param": parameters}
    torch.save(content, path)
    concept = load_concept(path)
    assert (concept.placeholder, concept.base) == ("<cat>", "sd1")
    assert torch.equal(concept.words[""], vectors)
    parameters.__dict__["_parameters"] = "no dictionary"
    torch.save(content, path)
    with pytest.raises(
        ConceptFileError, match="expected a dictionary of tensors in string_to_param"
    ):
        load_concept(path)


HARMLESS = {
    "a time": lambda: datetime.datetime(2023, 2, 1, 12),
    "a date and a span": lambda: [datetime.date(2023, 2, 1), datetime.timedelta(hours=3)],
    "a step of numpy": lambda: numpy.int64(1500),
    "a loss of numpy": lambda: numpy.float32(0.1),
    "an array": lambda: numpy.zeros(3, dtype=numpy.int32),
}


@pytest.mark.parametrize("case", HARMLESS)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_harmless_values_beside_the_vectors_are_passed_over(case, zipped, tmp_path):
    vectors, path = random(2, 768), tmp_path / "cat.pt"
    content = a1111(vectors, step=HARMLESS[case]())
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert torch.equal(load_concept(path).words[""], vectors)


class FromMac:
    """A tensor as torch wrote it on a Mac before 2.6: rebuilt from an array of numpy."""

    def __init__(self, tensor):
        self.tensor = tensor

    def __reduce__(self):
        rebuild = torch._utils._rebuild_device_tensor_from_numpy
        return rebuild, (self.tensor.numpy(), self.tensor.dtype, "mps", False)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_vectors_from_a_mac(dtype, tmp_path):
    vectors, path = random(2, 768).to(dtype), tmp_path / "cat.pt"
    torch.save({"string_to_param": {"*": FromMac(vectors)}}, path)
    assert torch.equal(load_concept(path).words[""], vectors.float())


@pytest.mark.parametrize("core", ["core", "_core"])
def test_arrays_of_both_ages_of_numpy(core, tmp_path):
    """numpy 2 has renamed the module that a pickle names."""
    ours, path = tmp_path / "ours.pt", tmp_path / "cat.pt"
    torch.save({"x": FromMac(random(2, 768))}, ours)
    with zipfile.ZipFile(ours) as read, zipfile.ZipFile(path, "w") as written:
        for name in read.namelist():
            content = read.read(name).replace(b"numpy._core.", f"numpy.{core}.".encode())
            written.writestr(name, content)
    assert torch.equal(plain_tensors(read_foreign(path, "cat").content)["x"], random(2, 768))


@pytest.mark.parametrize("code", ["O", "V8"])
def test_an_array_of_objects_is_refused(code, tmp_path):
    path = tmp_path / "cat.pt"
    torch.save({"cat": random(768), "more": numpy.zeros(2, dtype=code)}, path)
    with pytest.raises(ConceptFileError, match="was refused: it holds more than plain tensors"):
        load_concept(path)


@pytest.mark.parametrize("suffix", ["pt", "bin", "ckpt", "pth", "PT", "sft", "safetensors"])
def test_a_safetensors_is_one_under_any_name(suffix, tmp_path):
    path = tmp_path / f"cat.{suffix}"
    save_file({"emb_params": random(2, 768)}, path)
    concept = load_concept(path)
    assert torch.equal(concept.words[""], random(2, 768))
    assert concept.placeholder == "<cat>"


@pytest.mark.parametrize("suffix", [*SUFFIXES, "safetensors", "sft"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:1234\nsize 3819\n",
            "is a pointer of Git LFS.*Expected the file itself: download it",
        ),
        (b"<!DOCTYPE html>\n<html><body>Sign in</body></html>", "is a web page.*download it again"),
        (b"\n  <html>404</html>", "is a web page.*download it again"),
    ],
    ids=["pointer", "page", "short page"],
)
def test_what_was_saved_in_a_files_place_is_called_what_it_is(content, message, suffix, tmp_path):
    path = tmp_path / f"cat.{suffix}"
    path.write_bytes(content)
    with pytest.raises(ConceptFileError, match=f"'cat.{suffix}' {message}"):
        load_concept(path)


class Malicious:
    """Unpickled by an ordinary loader it would create the marker file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


def as_legacy(content, path):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def as_plain_pickle(content, path):
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize("write", [torch.save, as_legacy, as_plain_pickle])
@pytest.mark.parametrize("suffix", ["pt", "bin"])
@pytest.mark.parametrize(
    "hidden", ["alone", "beside the vectors", "inside A1111", "inside a ParameterDict"]
)
def test_a_pickle_with_code_is_refused_and_runs_nothing(write, suffix, hidden, tmp_path):
    marker, path = tmp_path / "marker", tmp_path / f"cat.{suffix}"
    evil = Malicious(marker)
    content = {
        "alone": evil,
        "beside the vectors": diffusers(random(768)) | {"extra": evil},
        "inside A1111": a1111(random(1, 768)) | {"name": evil},
        "inside a ParameterDict": {"string_to_param": torch.nn.ParameterDict({"*": evil})},
    }[hidden]
    write(content, path)
    with pytest.raises(
        ConceptFileError,
        match="was refused.*could run code.*Nothing in it was run",
    ):
        load_concept(path)
    assert not marker.exists()
    if write is not as_plain_pickle:  # the danger is real: an unguarded reader runs the code
        torch.load(path, weights_only=False)
        assert marker.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"\x80", b"PK\x03\x04", b"a plain text, renamed", b"\x00" * 4096],
    ids=["empty", "one byte", "zip head", "text", "zeros"],
)
@pytest.mark.parametrize("suffix", ["pt", "bin"])
def test_damaged_pickles_get_a_sentence(content, suffix, tmp_path):
    path = tmp_path / f"cat.{suffix}"
    path.write_bytes(content)
    with pytest.raises(ConceptFileError, match=rf"'cat.{suffix}' (cannot be read|was refused)"):
        load_concept(path)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.99])
def test_pickles_that_are_cut_off_get_a_sentence(zipped, kept, tmp_path):
    path = tmp_path / "cat.pt"
    torch.save(diffusers(random(3, 768)), path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ConceptFileError, match=r"'cat.pt' (cannot be read|was refused)"):
        load_concept(path)
