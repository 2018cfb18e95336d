"""A card says of a file what loading it would say, without reading its tensors."""

import json

import pytest
import torch
from personalize.concepts import methods
from personalize.concepts.cards import card_of, read_card
from personalize.concepts.concept import Concept
from personalize.concepts.errors import ConceptFileError
from personalize.concepts.files import load_concept, save_concept, save_embedding
from safetensors.torch import save_file


def make(method=methods.CROSS_INIT, **changes):
    words = {"": torch.ones(2, 64)}
    settings = {"class_word": "person", "words": words, **changes}
    return Concept(method, "sd1", 64, "<me>", **settings)


CONCEPTS = {
    "cross init": make(),
    "without class word": make(class_word=""),
    "textual inversion": make(methods.TEXTUAL_INVERSION),
    "detex": make(
        methods.DETEX,
        words={n: torch.ones(1, 64) for n in ("", "pose2", "background1", "pose1")},
        tensors={"delta": torch.ones(3, 3)},
    ),
    "elite": make(methods.ELITE, words={"": torch.ones(1, 64), "word1": torch.ones(1, 64)}),
    "catversion": make(
        methods.CATVERSION,
        words={},
        tensors={
            "residual.9.key": torch.ones(1, 64),
            "residual.9.value": torch.ones(1, 64),
            "logit_bias": torch.tensor(1.0),
        },
    ),
}


@pytest.mark.parametrize("case", CONCEPTS)
def test_the_card_of_a_file_is_that_of_the_loaded_concept(case, tmp_path):
    path = tmp_path / "a.safetensors"
    save_concept(CONCEPTS[case], path)
    card = read_card(path, "a.safetensors")
    assert sorted(card.attributes) == sorted(card_of(load_concept(path)).attributes)
    assert (card.placeholder, card.method) == ("<me>", CONCEPTS[case].method.key)
    assert card.base_title == "Stable Diffusion 1.x"
    assert json.loads(json.dumps(card.as_json()))["method_name"] == card.method_name


@pytest.mark.parametrize(
    ("training", "steps", "planned"),
    [
        ({}, 0, 0),
        ({"steps_taken": 500, "config": {"steps": 1000}}, 500, 1000),
        ({"steps_taken": "many", "config": "none"}, 0, 0),
        ({"steps_taken": True, "config": {"steps": -3}}, 0, 0),
    ],
)
def test_the_card_says_how_much_was_learned(training, steps, planned, tmp_path):
    path = tmp_path / "a.safetensors"
    save_concept(make(training=training), path)
    card = read_card(path, "a.safetensors")
    assert (card.steps, card.planned, card.base) == (steps, planned, "sd1")


@pytest.mark.parametrize(
    ("case", "write", "attributes"),
    [
        ("cross init", "<me> person", ()),
        ("without class word", "<me>", ()),
        ("textual inversion", "<me>", ()),
        ("detex", "<me>", ("<me:background1>", "<me:pose1>", "<me:pose2>")),
        ("elite", "<me>", ()),
        ("catversion", "<me>", ()),
    ],
)
def test_what_to_write(case, write, attributes, tmp_path):
    save_concept(CONCEPTS[case], tmp_path / "a.safetensors")
    card = read_card(tmp_path / "a.safetensors", "a")
    assert (card.write, card.attributes) == (write, attributes)


def test_an_embedding_of_another_program_has_a_card(tmp_path):
    save_embedding(
        Concept(methods.TEXTUAL_INVERSION, "sd1", 768, "<x>", words={"": torch.ones(1, 768)}),
        tmp_path / "cat.safetensors",
    )
    torch.save({"<dog>": torch.ones(768)}, tmp_path / "dog.bin")
    assert read_card(tmp_path / "cat.safetensors", "cat.safetensors").placeholder == "<cat>"
    assert read_card(tmp_path / "dog.bin", "dog.bin").placeholder == "<dog>"


BASE = {"format": "personalize/1", "method": "cross_init", "base": "sd1", "text_width": "64"}
GOOD = {**BASE, "placeholder": "<me>"}


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (BASE, "lacks or garbles 'placeholder'"),
        ({**GOOD, "format": "personalize/9"}, "Update Personalize"),
        ({**GOOD, "method": "magic"}, "lacks or garbles 'magic'"),
        ({**GOOD, "base": "sd9"}, "Unknown base model 'sd9'"),
        ({**GOOD, "placeholder": "<img src=x onerror=alert(1)>"}, "no usable concept.*white space"),
    ],
)
def test_a_description_that_cannot_be(metadata, message, tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"word": torch.ones(1, 64)}, path, metadata)
    with pytest.raises(ConceptFileError, match=message):
        read_card(path, "a.safetensors")


def test_a_damaged_file(tmp_path):
    (tmp_path / "a.safetensors").write_bytes(b"oh no")
    with pytest.raises(ConceptFileError, match="'a' is no whole safetensors file"):
        read_card(tmp_path / "a.safetensors", "a")
