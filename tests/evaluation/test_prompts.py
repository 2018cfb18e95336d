"""Prompts in plain words."""

import pytest
from personalize.concepts.errors import EvaluationError
from personalize.evaluation.prompts import plain_prompt


@pytest.mark.parametrize(
    "prompt, plain",
    [
        ("a photo of <my-dog>", "a photo of dog"),
        ("a photo of a <my-dog> on the beach", "a photo of a dog on the beach"),
        ("a photo of a <my-dog> dog on the beach", "a photo of a dog on the beach"),
        ("a <my-dog> Dog, <my-dog> again", "a Dog, dog again"),
        ("a <my-dog> doghouse", "a dog doghouse"),
        ("a (<my-dog>:1.3) in ((the) snow:0.8)", "a dog in the snow"),
        (r"a <my-dog> \(rex\)", "a dog (rex)"),
        ("a <my-dog> with <my-dog:pose2> pose", "a dog with pose"),
        ("no placeholder,  a dog", "no placeholder, a dog"),
        ("3 < 4 dogs", "3 < 4 dogs"),
    ],
)
def test_the_class_word_stands_for_the_placeholder(prompt, plain):
    assert plain_prompt(prompt, " dog ") == plain


def test_a_class_of_two_words():
    assert plain_prompt("a <x> stuffed animal", "stuffed animal") == "a stuffed animal"
    assert plain_prompt("a wet <x>", "stuffed animal") == "a wet stuffed animal"


def test_a_named_placeholder_is_the_only_one():
    assert plain_prompt("a <my-dog> runs", "dog", "<my-dog>") == "a dog runs"
    assert plain_prompt("a dog runs", "dog", "<my-dog>") == "a dog runs"
    with pytest.raises(EvaluationError, match="has <cat>, but the concept's placeholder is <my-d"):
        plain_prompt("a <cat> runs", "dog", "<my-dog>")
    with pytest.raises(EvaluationError, match="has <cat>, but"):
        plain_prompt("a <cat> and <my-dog>", "dog", "<my-dog>")


def test_two_unknown_placeholders_are_one_too_many():
    with pytest.raises(EvaluationError, match="more than one placeholder: <cat>, <dog>. Name"):
        plain_prompt("a <dog> and a <cat>", "dog")


@pytest.mark.parametrize("prompt, word, told", [
    ("a <dog>", " ", "class_word is empty, but the prompt 'a <dog>' has the placeholder <dog>"),
    ("  ", "dog", "The prompt is empty"),
    ("<x:pose1>", "dog", "The prompt is empty"),
])  # fmt: skip
def test_nothing_to_compare_with(prompt, word, told):
    with pytest.raises(EvaluationError, match=told):
        plain_prompt(prompt, word)
