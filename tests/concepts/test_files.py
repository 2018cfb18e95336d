"""The concept file: what goes in comes out, nothing is half written, damage gets a sentence."""

import json
import os
import re
import struct
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from personalize.concepts import methods
from personalize.concepts.concept import Concept
from personalize.concepts.errors import ConceptFileError
from personalize.concepts.files import FORMAT, load_concept, save_concept, save_embedding
from safetensors import safe_open
from safetensors.torch import load_file, save, save_file

TRAINING = {
    "config": {"learning_rate": 0.005, "templates": "a {}\nthe {}", "flip": True},
    "steps_taken": 320,
    "versions": {"personalize": "0.1.0"},
    "note": "Grüße, 猫",
    "nothing": None,
}


def random(*shape, dtype=torch.float32):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)


def make_concept(method=methods.CROSS_INIT, **changes):
    settings = {
        "method": method,
        "base": "sd1",
        "text_width": 8,
        "placeholder": "<my-dog>",
        "class_word": "dog",
        "words": {"": random(2, 8)},
        "training": TRAINING,
    }
    return Concept(**settings | changes)


def assert_equal(one, other):
    for name in ("method", "base", "text_width", "placeholder", "class_word"):
        assert getattr(one, name) == getattr(other, name)
    assert dict(one.training) == dict(other.training)
    for mine, theirs in ((one.words, other.words), (one.tensors, other.tensors)):
        assert mine.keys() == theirs.keys()
        for key, tensor in mine.items():
            assert tensor.dtype == theirs[key].dtype
            assert torch.equal(tensor, theirs[key])


def leftovers(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("method", methods.METHODS.values(), ids=lambda m: m.key)
@pytest.mark.parametrize(
    ("words", "tensors"),
    [
        ({"": random(1, 8)}, {}),
        ({"": random(75, 8)}, {}),
        ({"": random(1, 8), "pose1": random(1, 8) + 1, "background12": random(1, 8) + 2}, {}),
        (
            {"": random(2, 8)},
            {
                "local": random(4, 8, dtype=torch.float16),
                "unet.attn2.to_k.diff": random(8, 3, dtype=torch.bfloat16),
                "words_of_wisdom": torch.arange(5),
                "scalar": torch.tensor(1.5),
                "transposed": random(3, 5).T,
            },
        ),
    ],
    ids=["one", "75", "attributes", "all"],
)
def test_round_trip(method, words, tensors, tmp_path):
    concept = make_concept(method, words=words, tensors=tensors)
    path = tmp_path / "a concept é.safetensors"
    save_concept(concept, path)
    assert_equal(load_concept(path), concept)
    assert leftovers(tmp_path) == [path.name]


def test_a_concept_without_words_of_its_own_goes_round(tmp_path):
    path = tmp_path / "dog.safetensors"
    concept = make_concept(methods.CATVERSION, words={}, tensors={"layers.9.key": random(1, 8)})
    save_concept(concept, path)
    assert_equal(load_concept(path), concept)
    path.write_bytes(save({"layers.9.key": random(1, 8)}, METADATA))
    with pytest.raises(ConceptFileError, match="Cross Initialization concept, but it lacks.*word"):
        load_concept(path)


def test_saving_twice_writes_the_same_bytes(tmp_path):
    paths = [tmp_path / "one.safetensors", tmp_path / "two.safetensors"]
    for path in paths:
        save_concept(make_concept(), path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    save_concept(load_concept(paths[0]), paths[1])
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_the_file_is_a_plain_safetensors_with_the_promised_metadata(tmp_path):
    path = tmp_path / "dog.safetensors"
    save_concept(make_concept(words={"": random(2, 8), "pose1": random(1, 8)}), path)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        assert sorted(file.keys()) == ["word", "word.pose1"]
    assert json.loads(metadata.pop("training")) == TRAINING
    assert re.fullmatch("[0-9a-f]{64}", metadata.pop("sha256"))
    assert metadata == {
        "checked_by": "sha256",
        "format": "personalize/1",
        "method": "cross_init",
        "base": "sd1",
        "text_width": "8",
        "placeholder": "<my-dog>",
        "class_word": "dog",
    }


def test_a_saved_file_has_the_permissions_of_any_other(tmp_path):
    save_concept(make_concept(), tmp_path / "dog.safetensors")
    (tmp_path / "other").touch()
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("dog.safetensors", "other")]
    assert modes[0] == modes[1]


@pytest.mark.parametrize("base", ["sd1", "sd2"])
def test_a_stock_embedding_holds_the_vectors_under_its_encoders_key(base, tmp_path):
    concept, path = make_concept(base=base), tmp_path / "dog.safetensors"
    save_embedding(concept, path)
    (key, vectors) = next(iter(load_file(path).items()))
    assert key == {"sd1": "clip_l", "sd2": "clip_h"}[base]
    assert torch.equal(vectors, concept.words[""])
    read = load_concept(path)
    assert (read.base, read.text_width, read.placeholder) == (base, 8, "<dog>")
    assert torch.equal(read.words[""], concept.words[""])


def test_a_concept_that_is_more_than_words_is_no_stock_embedding(tmp_path):
    for concept in (
        make_concept(methods.DETEX, tensors={"k": random(2, 2)}),
        make_concept(methods.CATVERSION, words={}, tensors={"k": random(2, 2)}),
    ):
        with pytest.raises(ConceptFileError, match="more than a word.*concept file only"):
            save_embedding(concept, tmp_path / "dog.safetensors")
    assert leftovers(tmp_path) == []


class Broken(Exception):
    pass


def fail(*args, **kwargs):
    raise Broken


@pytest.mark.parametrize("broken", ["os.replace", "os.fsync"])
@pytest.mark.parametrize("existing", [False, True])
def test_a_failing_write_leaves_the_old_file_or_none(broken, existing, tmp_path, monkeypatch):
    path = tmp_path / "dog.safetensors"
    if existing:
        save_concept(make_concept(), path)
    before = path.read_bytes() if existing else None
    monkeypatch.setattr(broken, fail)
    with pytest.raises(Broken):
        save_concept(make_concept(words={"": random(3, 8)}), path)
    monkeypatch.undo()
    assert leftovers(tmp_path) == (["dog.safetensors"] if existing else [])
    assert not existing or path.read_bytes() == before


METADATA = {
    "format": FORMAT,
    "method": "cross_init",
    "base": "sd1",
    "text_width": "8",
    "placeholder": "<my-dog>",
}


def described(**changes):
    """A concept file's bytes with other metadata; None leaves an entry out."""
    entries = METADATA | changes
    return save({"word": random(2, 8)}, {k: v for k, v in entries.items() if v is not None})


def with_word(word):
    return save({"word": word}, METADATA)


BAD_FILES = {
    "empty": (b"", "no whole safetensors file .it holds nothing.*copy or download"),
    "text": (b"404 not found" * 9, "no whole safetensors file.*copy or download"),
    "a web page": (b"<html>404 not found</html>" * 9, "is a web page.*download it again"),
    "cut off": (described()[:-9], "no whole safetensors file.*copy or download"),
    "cut off in the header": (described()[:40], "no whole safetensors file.*copy or download"),
    "header of 9 EiB": (struct.pack("<Q", 2**63) + b"{}", "no whole safetensors file"),
    "newer format": (described(format="personalize/2"), "personalize/2.*reads personalize/1.*Upd"),
    "no method": (described(method=None), "lacks or garbles.*method.*Save"),
    "unknown method": (described(method="telepathy"), "lacks or garbles.*telepathy.*Save"),
    "no base": (described(base=None), "lacks or garbles.*base.*Save"),
    "unknown base": (described(base="sd9"), "'sd9'.*sd1, sd2"),
    "no width": (described(text_width=None), "lacks or garbles.*text_width.*Save"),
    "width of letters": (described(text_width="wide"), "lacks or garbles.*'wide'.*Save"),
    "wrong width": (described(text_width="9"), r"width 9.*\(2, 8\)"),
    "no placeholder": (described(placeholder=None), "lacks or garbles.*placeholder.*Save"),
    "bad placeholder": (described(placeholder="my dog"), "placeholder 'my dog'.*white space"),
    "NaN": (with_word(torch.full((2, 8), float("nan"))), "NaN or infinite.*train it again"),
    "76 vectors": (with_word(random(76, 8)), r"1 to 75 vectors.*\(76, 8\)"),
    "no vectors": (with_word(random(0, 8)), r"1 to 75 vectors.*\(0, 8\)"),
    "three dimensions": (with_word(random(1, 2, 8)), r"1 to 75 vectors.*\(1, 2, 8\)"),
    "integers": (
        with_word(torch.ones(1, 8, dtype=torch.int64)),
        "floating point.*torch.int64.*Save",
    ),
    "odd attribute": (
        save({"word": random(1, 8), "word.No 1": random(1, 8)}, METADATA),
        "'No 1'.*attribute word",
    ),
    "nothing learned": (save({}, METADATA), "lacks what was learned.*word.*Save"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_file_is_refused_with_its_name_and_a_sentence(case, tmp_path):
    content, message = BAD_FILES[case]
    path = tmp_path / "dog.safetensors"
    path.write_bytes(content)
    with pytest.raises(ConceptFileError, match=message) as caught:
        load_concept(path, "pets/dog.safetensors")
    assert "'pets/dog.safetensors'" in str(caught.value)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("training", [None, "", "{", "[1]", "null"])
def test_a_garbled_training_record_costs_nothing_but_the_record(training, tmp_path):
    path = tmp_path / "dog.safetensors"
    path.write_bytes(described(training=training))
    concept = load_concept(path)
    assert dict(concept.training) == {}
    assert torch.equal(concept.words[""], random(2, 8))


def sparse_safetensors(path, size, metadata):
    """A valid file whose one tensor is a hole of `size` bytes: takes no room on the disk."""
    entry = {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}
    header = json.dumps({"__metadata__": metadata, "word": entry}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    os.truncate(path, 8 + len(header) + size)


@pytest.mark.parametrize("metadata", [{}, METADATA], ids=["foreign", "ours"])
def test_a_huge_file_is_refused_without_reading_it(metadata, tmp_path):
    path = tmp_path / "huge.safetensors"
    sparse_safetensors(path, 40 * 2**30, metadata)
    with pytest.raises(ConceptFileError, match=r"'huge.safetensors'.*40960 MiB.*checkpoint"):
        load_concept(path)


@pytest.mark.parametrize("suffix", ["pt", "bin"])
def test_a_huge_pickle_is_refused_without_reading_it(suffix, tmp_path):
    path = tmp_path / f"huge.{suffix}"
    path.touch()
    os.truncate(path, 40 * 2**30)
    with pytest.raises(ConceptFileError, match="40960 MiB.*under 256 MiB.*checkpoint"):
        load_concept(path)


def test_a_checkpoint_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    blocks = ("input_blocks.0.0", "input_blocks.1.0", "middle_block.0", "out.2")
    tensors = {f"model.diffusion_model.{block}.weight": random(4, 4) for block in blocks}
    save_file(tensors | {"first_stage_model.encoder.weight": random(4, 4)}, path)
    with pytest.raises(
        ConceptFileError, match="is a checkpoint.*expected the vectors.*encoder.*Load Checkpoint"
    ):
        load_concept(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConceptFileError, match="no file 'dog.safetensors'.*Press R"):
        load_concept(tmp_path / "dog.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(ConceptFileError, match="no file 'folder.safetensors'"):
        load_concept(tmp_path / "folder.safetensors")


def test_the_documented_examples_read_and_write_it(tmp_path):
    page = Path(__file__).parents[2] / "docs" / "concept-file.md"
    examples = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    concept = make_concept()
    save_concept(concept, tmp_path / "my-dog.safetensors")
    run = partial(subprocess.run, cwd=tmp_path, check=True, capture_output=True, text=True)
    printed = [run([sys.executable, "-c", example]).stdout for example in examples]
    assert printed == ["cross_init <my-dog> (2, 8)\n320 steps\n", ""]
    renamed = load_concept(tmp_path / "rex.safetensors")
    assert (renamed.placeholder, dict(renamed.training)) == ("<rex>", {})
    embedding = load_concept(tmp_path / "my-dog-embedding.safetensors")
    for copy in (renamed, embedding):
        assert torch.equal(copy.words[""], concept.words[""])
