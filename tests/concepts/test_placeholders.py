import pytest
from personalize.concepts.errors import PersonalizeError, PlaceholderError
from personalize.concepts.placeholders import (
    attribute_placeholder,
    check_placeholder,
    find_placeholders,
    placeholder_from_name,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<my-dog>", "<my-dog>"),
        ("  <my-dog>\n", "<my-dog>"),
        ("<a>", "<a>"),
        ("<v1.5_best+last>", "<v1.5_best+last>"),
        ("<28017>", "<28017>"),
        ("<Überhund>", "<Überhund>"),
        ("<猫>", "<猫>"),
    ],
)
def test_good_placeholders(text, expected):
    assert check_placeholder(text) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        (" \t\n", "is empty"),
        ("<my dog>", "has white space"),
        ("<my\u00a0dog>", "has white space"),
        ("dog", "ordinary word.*Use <dog> instead"),
        ("my-dog", "Use <my-dog> instead"),
        ("<>", "cannot stand in a prompt"),
        ("<my-dog", "cannot stand in a prompt"),
        ("my-dog>", "cannot stand in a prompt"),
        ("<<my-dog>>", "cannot stand in a prompt"),
        ("<my-dog><hat>", "cannot stand in a prompt"),
        ("<-dog>", "cannot stand in a prompt"),
        ("<_dog>", "cannot stand in a prompt"),
        ("<my-dog:pose2>", "cannot stand in a prompt"),
        ("<(dog)>", "cannot stand in a prompt"),
        ("<my/dog>", "cannot stand in a prompt"),
    ],
)
def test_bad_placeholders_get_a_sentence_with_a_good_one(text, words):
    with pytest.raises(PlaceholderError, match=words) as caught:
        check_placeholder(text)
    assert isinstance(caught.value, PersonalizeError)
    assert "<my-dog>" in str(caught.value) or "instead" in str(caught.value)
    assert text.strip() in str(caught.value)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("my-dog.safetensors", "<my-dog>"),
        ("cats/My cat.pt", "<My-cat>"),
        ("cats\\My cat.BIN", "<My-cat>"),
        ("embedding:style.v2.pt", "<embedding-style.v2>"),
        ("<cat-toy>", "<cat-toy>"),
        ("<cat toy>", "<cat-toy>"),
        ("28017", "<28017>"),
        ("*", "<concept>"),
        ("", "<concept>"),
        ("___.pt", "<concept>"),
        (".hidden.pt", "<hidden>"),
    ],
)
def test_placeholders_made_from_names_are_good_ones(name, expected):
    assert placeholder_from_name(name) == expected
    assert check_placeholder(expected) == expected


@pytest.mark.parametrize(
    ("prompt", "found"),
    [
        ("a dog", []),
        ("<my-dog", []),
        ("a < b and c > d", []),
        ("< my-dog >", []),
        ("<my-dog>", [("<my-dog>", "")]),
        ("a (<my-dog>:1.2), <hat>.", [("<my-dog>", ""), ("<hat>", "")]),
        ("<my-dog><my-dog>", [("<my-dog>", ""), ("<my-dog>", "")]),
        ("<my-dog:pose2> and <my-dog:a:b>", [("<my-dog>", "pose2")]),
        ("<<my-dog>>", [("<my-dog>", "")]),
        ("<lora:name:0.5>", []),
    ],
)
def test_placeholders_in_prompts(prompt, found):
    hits = find_placeholders(prompt)
    assert [(placeholder, attribute) for _, _, placeholder, attribute in hits] == found
    for start, end, placeholder, attribute in hits:
        whole = attribute_placeholder(placeholder, attribute) if attribute else placeholder
        assert prompt[start:end] == whole


def test_an_attribute_is_written_inside_the_brackets():
    assert attribute_placeholder("<my-dog>", "pose2") == "<my-dog:pose2>"
