"""What the pack knows of a method is what it was registered with."""

import pytest
from personalize.concepts import methods
from personalize.concepts.methods import ClassWord, Method, Part, method_of, register_method

PUBLISHED = {
    "textual_inversion": "Textual Inversion",
    "cross_init": "Cross Initialization",
    "custom_diffusion": "Custom Diffusion",
    "detex": "DETEX",
    "catversion": "CatVersion",
    "elite": "ELITE",
}


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(methods, "METHODS", dict(methods.METHODS))


def test_keys_in_files_stay_what_they_are():
    assert {key: methods.METHODS[key].title for key in PUBLISHED} == PUBLISHED


def test_a_method_is_found_by_its_key(registry):
    mine = register_method(Method("mine", "My Method", (Part.WORDS,)))
    assert method_of("mine") is mine
    with pytest.raises(ValueError, match="'telepathy' is not a valid Method"):
        method_of("telepathy")


def test_a_key_belongs_to_one_method(registry):
    again = Method("elite", "ELITE", methods.ELITE.parts, attributes=False)
    assert register_method(again) == methods.ELITE  # a module that is loaded a second time
    with pytest.raises(ValueError, match=r"Mine has the key 'elite'.*belongs to ELITE"):
        register_method(Method("elite", "Mine", (Part.WORDS,)))


@pytest.mark.parametrize(
    ("method", "changes_weights", "needs_rows"),
    [
        (methods.CROSS_INIT, False, False),
        (methods.CATVERSION, False, False),
        (methods.DETEX, True, False),
        (methods.ELITE, False, True),
        (Method("mine", "Mine", (Part.WORDS,), patch=lambda model, applied: model), False, True),
    ],
    ids=lambda value: getattr(value, "title", None),
)
def test_what_follows_from_the_parts(method, changes_weights, needs_rows):
    assert (method.changes_weights, method.needs_rows) == (changes_weights, needs_rows)


def test_where_the_class_word_stands():
    assert {m: methods.METHODS[m].class_word for m in PUBLISHED} == {
        "textual_inversion": ClassWord.REPLACED,
        "cross_init": ClassWord.WRITTEN,
        "custom_diffusion": ClassWord.APPENDED,
        "detex": ClassWord.APPENDED,
        "catversion": ClassWord.KEPT,
        "elite": ClassWord.REPLACED,
    }
