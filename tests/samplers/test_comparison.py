"""Rows and prompts of a comparison."""

from dataclasses import replace

import pytest
import torch
from personalize.concepts.concept import Concept
from personalize.concepts.errors import PersonalizeError
from personalize.concepts.methods import CROSS_INIT, DETEX
from personalize.samplers.comparison import (
    MOST_PICTURES,
    check_size,
    read_lines,
    read_strengths,
    rows_of,
)


def concept(placeholder="<my-dog>", method=DETEX, class_word="dog", **training):
    words = {"": torch.ones(1, 768)}
    return Concept(method, "sd1", 768, placeholder, class_word, words, training=training)


def labels(*concepts, strengths=(1.0,)):
    return [row.label for row in rows_of(concepts, strengths)]


def test_labels_tell_rows_apart():
    one, other = concept(steps_taken=600), concept("<me>", CROSS_INIT, "person")
    assert labels(one, other) == [
        ("<my-dog>", "DETEX", "600 steps"),
        ("<me>", "Cross Initialization"),
    ]
    assert labels(other, strengths=(0.5, 1.0)) == [
        ("<me>", "Cross Initialization", "strength 0.5"),
        ("<me>", "Cross Initialization", "strength 1"),
    ]
    assert labels(one, replace(one), other)[:2] == [
        ("<my-dog>", "DETEX", "600 steps", "number 1"),
        ("<my-dog>", "DETEX", "600 steps", "number 2"),
    ]
    assert len(set(labels(one, concept(steps_taken=300), strengths=(0.5, 1, 1.5)))) == 6


PROMPTS = {
    "a photo of {}": ("a photo of <my-dog>", "a photo of <me> person"),
    "{} as a {class}": ("<my-dog> as a dog", "<me> person as a person"),
    "({}:1.2) runs": ("(<my-dog>:1.2) runs", "(<me> person:1.2) runs"),
    "{}, {}": ("<my-dog>, <my-dog>", "<me> person, <me> person"),
}


@pytest.mark.parametrize("line", PROMPTS)
def test_a_line_is_each_concepts_own_prompt(line):
    rows = rows_of([concept(), concept("<me>", CROSS_INIT, "person")], [1])
    assert tuple(row.prompt(line) for row in rows) == PROMPTS[line]


def test_a_line_must_name_the_concept():
    mine, other = rows_of([concept(), concept("<me>")], [1])
    assert mine.prompt("a <my-dog> and <my-dog:pose1>") == "a <my-dog> and <my-dog:pose1>"
    for line in ("a dog", "a <my-dog>", "a <mee>"):
        with pytest.raises(PersonalizeError, match=f"'{line}' does not name <me>.*Write {{}}"):
            other.prompt(line)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("1", [1]), ("0.5, 1", [0.5, 1]), (" 0;.5\n1.5 ", [0, 0.5, 1.5]), ("1,", [1])],
)
def test_strengths(text, numbers):
    assert read_strengths(text) == numbers


@pytest.mark.parametrize("text", ["", " ", ",", "strong", "1, x", "0,5.5.5"])
def test_what_is_no_strength(text):
    with pytest.raises(PersonalizeError, match=r"0\.5, 1"):
        read_strengths(text)


def test_lines():
    assert read_lines(" a {}\n\n  b {} \n") == ["a {}", "b {}"]
    with pytest.raises(PersonalizeError, match="no prompt. Write at least one line"):
        read_lines(" \n")


def test_what_is_too_much_or_nothing():
    with pytest.raises(PersonalizeError, match="no concept to compare. Connect"):
        rows_of([], [1])
    rows = rows_of([concept()], [1.0])
    check_size(rows, ["{}"] * MOST_PICTURES)
    with pytest.raises(PersonalizeError, match=f"are {MOST_PICTURES + 1} pictures.*fewer"):
        check_size(rows, ["{}"] * (MOST_PICTURES + 1))
