"""Learned words of other programs, from real files; unsafe ones are refused and run nothing."""

import pickle
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from personalize.concepts.concept import Method
from personalize.concepts.errors import ConceptFileError
from personalize.concepts.files import load_concept
from safetensors.torch import save_file

OFFICIAL = Path(__file__).resolve().parents[2] / ".." / "shared" / "data" / "official"


def random(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def official(name):
    path = OFFICIAL / name
    if not path.is_file():
        pytest.skip(f"the authors' file {name} is not here")
    return path


def test_the_official_cross_initialization_file():
    path = official("cross_init_28017_learned_embeds.bin")
    concept = load_concept(path)
    assert (concept.method, concept.base, concept.text_width) == (Method.CROSS_INIT, "sd2", 1024)
    assert concept.placeholder == "<28017>"
    norms = concept.words[""].norm(dim=1).tolist()
    assert norms == pytest.approx([32.94, 33.57], abs=0.01)
    stored = torch.load(path, weights_only=True)
    assert torch.equal(concept.words[""], torch.stack([stored["28017_v0"], stored["28017_v1"]]))
    assert dict(concept.training) == {"imported_from": path.name}


def diffusers(vectors):
    return {"<cat-toy>": vectors}


def a1111(vectors):
    """As AUTOMATIC1111's trainer writes it."""
    return {
        "string_to_token": {"*": 265},
        "string_to_param": {"*": torch.nn.Parameter(vectors)},
        "name": "cat-toy",
        "step": 1500,
        "sd_checkpoint": "81761151",
        "sd_checkpoint_name": "model-v1-5",
    }


PICKLED = {
    "diffusers, one vector": (lambda: diffusers(random(768)), "sd1", 1, "<cat-toy>"),
    "diffusers, rows": (lambda: diffusers(random(3, 1024)), "sd2", 3, "<cat-toy>"),
    "diffusers, half": (lambda: diffusers(random(1, 768).half()), "sd1", 1, "<cat-toy>"),
    "diffusers, gradient": (lambda: diffusers(random(768).requires_grad_()), "sd1", 1, "<cat-toy>"),
    "A1111": (lambda: a1111(random(4, 768)), "sd1", 4, "<my-file>"),
    "A1111 for SD2": (lambda: a1111(random(2, 1024)), "sd2", 2, "<my-file>"),
    "ordered": (lambda: OrderedDict(diffusers(random(768))), "sd1", 1, "<cat-toy>"),
    "bare token": (lambda: {"cat toy": random(768)}, "sd1", 1, "<cat-toy>"),
    "numbered": (lambda: {f"cat_v{n}": random(768, seed=n) for n in range(12)}, "sd1", 12, "<cat>"),
}


@pytest.mark.parametrize("case", PICKLED)
@pytest.mark.parametrize("suffix", ["pt", "bin"])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_pickled_embeddings(case, suffix, zipped, tmp_path):
    make, base, rows, placeholder = PICKLED[case]
    path = tmp_path / f"my file.{suffix}"
    content = make()
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    concept = load_concept(path)
    assert (concept.base, concept.placeholder) == (base, placeholder)
    assert concept.words[""].shape == (rows, concept.text_width)
    vectors = content["string_to_param"]["*"] if "string_to_param" in content else None
    if vectors is None:
        vectors = torch.cat([v.view(-1, concept.text_width) for v in content.values()])
    assert torch.equal(concept.words[""], vectors.detach().float())
    assert concept.method == Method.TEXTUAL_INVERSION


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
    with pytest.raises(ConceptFileError, match="no embedding: expected a dictionary of tensors"):
        load_concept(path)


def test_numbered_words_are_read_in_the_order_of_their_numbers(tmp_path):
    path = tmp_path / "cat.bin"
    torch.save({f"cat_v{n}": torch.full((768,), float(n)) for n in (10, 2, 0)}, path)
    assert load_concept(path).words[""][:, 0].tolist() == [0, 2, 10]


SAFETENSORS = {
    "clip_l": ({"clip_l": random(2, 768)}, "sd1", "clip_l", "<cat>"),
    "clip_h": ({"clip_h": random(2, 1024)}, "sd2", "clip_h", "<cat>"),
    "SDXL": ({"clip_g": random(2, 1280), "clip_l": random(2, 768)}, "sd1", "clip_l", "<cat>"),
    "emb_params": ({"emb_params": random(3, 768)}, "sd1", "emb_params", "<cat>"),
    "emb_params for SD2": ({"emb_params": random(3, 1024)}, "sd2", "emb_params", "<cat>"),
    "diffusers": ({"<cat-toy>": random(768)}, "sd1", "<cat-toy>", "<cat-toy>"),
}


@pytest.mark.parametrize("case", SAFETENSORS)
def test_safetensors_embeddings(case, tmp_path):
    tensors, base, key, placeholder = SAFETENSORS[case]
    path = tmp_path / "cat.safetensors"
    save_file(tensors, path, {"made by": "another program"})
    concept = load_concept(path, "animals/cat.safetensors")
    assert (concept.base, concept.placeholder) == (base, placeholder)
    assert torch.equal(concept.words[""], tensors[key].view(-1, concept.text_width))
    assert dict(concept.training) == {"imported_from": "cat.safetensors"}


NO_EMBEDDINGS = {
    "SDXL's big encoder alone": ({"clip_g": random(2, 1280)}, r"width 1280.*768 .*1024"),
    "unknown width": ({"cat": random(2, 640)}, r"width 640.*768 .*1024"),
    "three dimensions": ({"cat": random(1, 1, 768)}, r"expected vectors.*\(1, 1, 768\)"),
    "integers": ({"cat": torch.ones(1, 768, dtype=torch.int64)}, "expected vectors.*torch.int64"),
    "scalar": ({"cat": torch.tensor(1.0)}, "width 0.*768"),
    "76 vectors": ({"cat": random(76, 768)}, r"1 to 75 vectors.*\(76, 768\)"),
    "76 numbered": ({f"cat_v{n}": random(768) for n in range(76)}, r"1 to 75 vectors.*\(76, 768\)"),
    "no vectors": ({"cat": random(0, 768)}, r"1 to 75 vectors.*\(0, 768\)"),
    "NaN": ({"cat": torch.full((1, 768), float("nan"))}, "NaN or infinite"),
    "unequal": ({"cat_v0": random(768), "cat_v1": random(1024)}, "shapes.*768.*1024.*one width"),
    "two words": (
        {"cat": random(768), "dog": random(768)},
        "vectors of one learned word.*cat, dog",
    ),
    "a LoRA": (
        {f"lora_unet_{n}.lora_up.weight": random(4, 4) for n in range(9)},
        r"vectors of one learned word.*lora_unet_0.*\.\.\.",
    ),
    "nothing": ({}, "no embedding.*none|without any"),
}


@pytest.mark.parametrize("case", NO_EMBEDDINGS)
@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_what_is_no_embedding_is_refused_by_name(case, suffix, tmp_path):
    tensors, message = NO_EMBEDDINGS[case]
    path = tmp_path / f"cat.{suffix}"
    if suffix == "bin":
        torch.save(tensors, path)
    else:
        save_file(tensors, path)
    with pytest.raises(ConceptFileError, match=message) as caught:
        load_concept(path)
    assert f"'cat.{suffix}'" in str(caught.value)


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
        ConceptFileError, match="was refused.*could run code.*Nothing in it was run"
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


@pytest.mark.parametrize("content", [[1, 2], "text", 5, None, {"a": 1}, torch.ones(768), {}])
def test_plain_values_are_no_embedding(content, tmp_path):
    path = tmp_path / "cat.pt"
    torch.save(content, path)
    with pytest.raises(
        ConceptFileError, match="no embedding: expected a dictionary of tensors, got"
    ):
        load_concept(path)
