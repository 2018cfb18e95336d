"""Load, Save and Apply as the host runs them, in this process."""

from pathlib import Path
from typing import Any

import folder_paths
import pytest
import torch
from personalize.concepts import methods
from personalize.concepts.concept import Concept
from personalize.concepts.differences import compressed, weight_differences
from personalize.concepts.errors import (
    BaseModelError,
    ConceptFileError,
    PersonalizeError,
    PlaceholderError,
)
from personalize.concepts.files import load_concept, save_concept
from personalize.host.folders import concepts_output
from personalize.nodes.concept import ApplyConcept, LoadConcept, SaveConcept
from safetensors.torch import save_file

pytestmark = pytest.mark.host


def run(node, **inputs) -> Any:
    """Execute a node as the host does, under inference mode, and return its NodeOutput."""
    with torch.inference_mode():
        return node.PREPARE_CLASS_CLONE(None).EXECUTE_NORMALIZED(**inputs)


def result(node, **inputs):
    return run(node, **inputs).result


def combo():
    return LoadConcept.INPUT_TYPES()["required"]["concept_name"][1]["options"]


def make_concept(placeholder="<my-dog>", method=methods.CROSS_INIT, width=64, **changes):
    words = torch.randn(2, width, generator=torch.Generator().manual_seed(0))
    settings = {"class_word": "dog", "words": {"": words}, "training": {"steps_taken": 3}}
    return Concept(method, "sd1", width, placeholder, **settings | changes)


APPLY = {"strength": 1.0, "local_strength": 0.8, "start_percent": 0.0, "end_percent": 1.0}


def encode(clip, text):
    from nodes import CLIPTextEncode

    with torch.inference_mode():
        return CLIPTextEncode().encode(clip, text)[0][0][0]


def saved_paths(output):
    return output.ui["concepts"]


def test_save_load_apply(tiny_sd1):
    concept = make_concept()
    output = run(SaveConcept, concept=concept, filename="pets/round", also_as_embedding=False)
    assert saved_paths(output) == [str(concepts_output() / "pets" / "round.safetensors")]
    assert output.ui["text"][0].startswith(f"saved {saved_paths(output)[0]} (0.")
    assert output.ui["text"][0].endswith(" kB)")
    assert "pets/round.safetensors" in combo()
    (loaded,) = result(LoadConcept, concept_name="pets/round.safetensors", placeholder="")
    assert torch.equal(loaded.words[""], concept.words[""])
    assert (loaded.placeholder, loaded.class_word) == ("<my-dog>", "dog")
    model, clip = result(
        ApplyConcept, model=tiny_sd1.model, clip=tiny_sd1.clip, concept=loaded, **APPLY
    )
    assert model is tiny_sd1.model and clip is not tiny_sd1.clip
    stock = encode(tiny_sd1.clip, "a <my-dog>")
    assert not torch.equal(encode(clip, "a <my-dog>"), stock)
    assert torch.equal(encode(tiny_sd1.clip, "a <my-dog>"), stock)


def test_also_as_an_embedding(tiny_sd1):
    concept = make_concept()
    output = run(SaveConcept, concept=concept, filename="my dog (both)", also_as_embedding=True)
    concept_file, _ = saved_paths(output)
    assert concept_file.endswith("my dog (both).safetensors")
    assert "embedding:my-dog-both.safetensors" in combo()  # a prompt cannot say the other name
    (loaded,) = result(LoadConcept, concept_name="embedding:my-dog-both.safetensors")
    assert torch.equal(loaded.words[""], load_concept(concept_file).words[""])
    _, clip = result(
        ApplyConcept, model=tiny_sd1.model, clip=tiny_sd1.clip, concept=concept, **APPLY
    )
    ours, stock = encode(clip, "a <my-dog>"), encode(tiny_sd1.clip, "a embedding:my-dog-both")
    assert torch.equal(ours, stock)


def test_pictures_are_kept_beside_the_file_unless_unwanted():
    concept = make_concept(pictures=torch.zeros(2, 16, 16, 3, dtype=torch.uint8))
    for name, kept, preview, expected in (
        ("all", True, None, [".pictures.webp", ".safetensors", ".webp"]),
        ("none", False, None, [".safetensors"]),
        ("shown", False, torch.rand(1, 64, 64, 3), [".safetensors", ".webp"]),
    ):
        inputs = {"keep_pictures": kept, "preview": preview, "also_as_embedding": False}
        run(SaveConcept, concept=concept, filename=f"pictures/{name}", **inputs)
        written = (concepts_output() / "pictures").glob(f"{name}.*")
        assert sorted(path.name.removeprefix(name) for path in written) == expected


def test_load_and_apply_tell_the_browser_what_to_write(tiny_sd1):
    run(SaveConcept, concept=make_concept(), filename="told", also_as_embedding=False)
    loaded = run(LoadConcept, concept_name="told.safetensors", placeholder="<rex>")
    applied = run(
        ApplyConcept, model=tiny_sd1.model, clip=tiny_sd1.clip, concept=loaded.result[0], **APPLY
    )
    for output in (loaded, applied):
        (card,) = output.ui["concept_card"]
        assert (card["method_name"], card["write"]) == ("Cross Initialization", "<rex> dog")


def test_nothing_is_overwritten():
    first, second = (
        saved_paths(run(SaveConcept, concept=c, filename="twice", also_as_embedding=True))
        for c in (make_concept(), make_concept(words={"": torch.ones(1, 64)}))
    )
    assert len({*first, *second}) == 4
    assert load_concept(first[0]).words[""].shape == (2, 64)


def test_a_concept_that_is_no_word_alone_saves_nothing_when_an_embedding_is_wanted():
    concept = make_concept(method=methods.DETEX, tensors={"k": torch.ones(2, 2)})
    with pytest.raises(ConceptFileError, match="more than a word"):
        run(SaveConcept, concept=concept, filename="no word", also_as_embedding=True)
    assert not [name for name in combo() if "no word" in name]


@pytest.mark.parametrize("filename", ["", "../../evil", "/etc/evil", "a:b", "NUL"])
def test_a_file_name_that_leaves_the_folder_is_refused(filename, host_base):
    before = sorted(host_base.rglob("*.safetensors"))
    with pytest.raises(ConceptFileError, match="is no file name. Write a name such as my-dog"):
        run(SaveConcept, concept=make_concept(), filename=filename, also_as_embedding=True)
    assert sorted(host_base.rglob("*.safetensors")) == before


def test_load_renames():
    run(SaveConcept, concept=make_concept(), filename="renamed", also_as_embedding=False)
    name = "renamed.safetensors"
    for typed, expected in (("<rex>", "<rex>"), ("  ", "<my-dog>"), (" <rex> ", "<rex>")):
        (loaded,) = result(LoadConcept, concept_name=name, placeholder=typed)
        assert loaded.placeholder == expected
    with pytest.raises(PlaceholderError, match="ordinary word.*<rex>"):
        run(LoadConcept, concept_name=name, placeholder="rex")


def test_load_notices_a_changed_file():
    path = concepts_output() / "changed.safetensors"
    save_concept(make_concept(), path)
    fingerprint = LoadConcept.fingerprint_inputs
    first = fingerprint("changed.safetensors")
    assert first == fingerprint("changed.safetensors")
    assert first != fingerprint("changed.safetensors", "<rex>")
    save_concept(make_concept(words={"": torch.ones(1, 64)}), path)
    assert first != fingerprint("changed.safetensors")


def test_of_several_words_the_token_says_which():
    path = concepts_output() / "pets.bin"
    words = {"<cat>": torch.rand(768), "<dog>": torch.rand(768)}
    torch.save(words, path)
    with pytest.raises(ConceptFileError, match="holds 2 concepts: <cat>, <dog>.*into token"):
        run(LoadConcept, concept_name="pets.bin")
    (loaded,) = result(LoadConcept, concept_name="pets.bin", token="dog")
    assert torch.equal(loaded.words[""][0], words["<dog>"])
    fingerprint = LoadConcept.fingerprint_inputs
    assert fingerprint("pets.bin", token="cat") != fingerprint("pets.bin", token="dog")


def test_what_an_import_leaves_out_is_told(caplog):
    words = {"emp_params": torch.rand(2, 768), "emp_params_out": torch.rand(2, 768)}
    save_file(words, concepts_output() / "both.safetensors")
    (loaded,) = result(LoadConcept, concept_name="both.safetensors")
    assert torch.equal(loaded.words[""], words["emp_params"])
    assert "both.safetensors was loaded without emp_params_out" in caplog.text


def test_load_says_where_it_looked():
    with pytest.raises(
        ConceptFileError, match=r"no concept 'gone.safetensors'. Looked in .*press R"
    ):
        run(LoadConcept, concept_name="gone.safetensors")


def test_load_names_a_damaged_file():
    path = concepts_output() / "damaged.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"oh no")
    with pytest.raises(ConceptFileError, match="'damaged.safetensors' is no whole safetensors"):
        run(LoadConcept, concept_name="damaged.safetensors")


def apply(tiny, concept, **changes):
    inputs = {"model": tiny.model, "clip": tiny.clip, "concept": concept, **APPLY, **changes}
    return result(ApplyConcept, **inputs)


def test_a_concept_of_another_base_or_width_is_refused(tiny_sd1, tiny_sd2):
    with pytest.raises(BaseModelError, match=r"1\.x \(text width 64\).*2\.x \(text width 96\)"):
        apply(tiny_sd2, make_concept())
    with pytest.raises(
        BaseModelError, match=r"text width 768.*text width 64.*checkpoint that fits"
    ):
        apply(tiny_sd1, make_concept(width=768))
    with pytest.raises(BaseModelError, match=r"this MODEL is Stable Diffusion 2"):
        apply(tiny_sd1, make_concept(), model=tiny_sd2.model)


def test_two_concepts_with_the_same_placeholder_are_refused(tiny_sd1):
    _, clip = apply(tiny_sd1, make_concept())
    with pytest.raises(PlaceholderError, match="Two applied concepts.*<my-dog>.*Rename one"):
        apply(tiny_sd1, make_concept(), clip=clip)
    apply(tiny_sd1, make_concept("<other>"), clip=clip)


def test_a_clip_that_is_not_clip_is_refused(tiny_sd1):
    from comfy.text_encoders.flux import FluxTokenizer

    other = tiny_sd1.clip.clone()
    other.tokenizer = FluxTokenizer()  # holds a T5 tokenizer
    with pytest.raises(BaseModelError, match=r"FluxTokenizer.*Expected the CLIP of a Stable Diff"):
        apply(tiny_sd1, make_concept(), clip=other)
    with pytest.raises(PersonalizeError, match=r"a CLIP at clip, got nothing.*whole checkpoint"):
        apply(tiny_sd1, make_concept(), clip=None)


@pytest.mark.parametrize("strength", [float("nan"), float("inf")])
def test_a_strength_that_is_no_number_is_refused(tiny_sd1, strength):
    with pytest.raises(PersonalizeError, match="Expected a strength.* such as 0.8"):
        apply(tiny_sd1, make_concept(), strength=strength)


def test_the_folder_key_is_the_hosts():
    assert str(concepts_output()) in folder_paths.get_folder_paths("concepts")


def test_a_rank_makes_the_file_smaller_and_says_what_was_lost():
    weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    concept = make_concept(method=methods.DETEX, tensors={"difference.a.to_k": weight})
    sizes = []
    for rank in (0, 2):
        output = run(
            SaveConcept, concept=concept, filename="ranked", also_as_embedding=False, rank=rank
        )
        sizes.append(Path(saved_paths(output)[0]).stat().st_size)
    assert sizes[1] < sizes[0] - 6000
    small, error = compressed(concept, 2)
    assert f"at rank 2 have a relative error of {error:.1%}" in output.ui["text"][0]
    loaded = load_concept(saved_paths(output)[0])
    kept = weight_differences(loaded)["a.to_k"]
    assert torch.equal(kept, weight_differences(small)["a.to_k"])
    with pytest.raises(PersonalizeError, match="has no weights to compress"):
        run(SaveConcept, concept=make_concept(), filename="x", also_as_embedding=False, rank=2)
