import pytest
from personalize.concepts.errors import PersonalizeError, PlaceholderError
from personalize.concepts.placeholders import (
    attribute_placeholder,
    check_placeholder,
    find_placeholders,
    nearest_word,
    placeholder_from_name,
    replace_placeholders,
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
        ("<my-dog>", [("<my-dog>", "")]),
        ("a (<my-dog>:1.2), <hat>.", [("<my-dog>", ""), ("<hat>", "")]),
        ("<my-dog><my-dog>", [("<my-dog>", ""), ("<my-dog>", "")]),
        ("<my-dog:pose2> and <my-dog:a:b>", [("<my-dog>", "pose2")]),
        ("<<my-dog>>", [("<my-dog>", "")]),
        ("<lora:name:0.5>, <LoRA:name>, <lyco:a:1>, <hypernet:b:.5>", []),
        ("<lora> and <lora-face:2>", [("<lora>", ""), ("<lora-face>", "", "2")]),
        ("<my-dog:0.8>", [("<my-dog>", "", "0.8")]),
        ("<my-dog:1>, <my-dog:.5>, <my-dog:2.>", [("<my-dog>", "", w) for w in ("1", ".5", "2.")]),
        ("<my-dog:pose2:1.2>", [("<my-dog>", "pose2", "1.2")]),
        ("<my-dog:-0.8>, <my-dog:0.8:pose2>, <my-dog:1.2.3>", [("<my-dog>", "1.2.3")]),
    ],
)
def test_placeholders_in_prompts(prompt, found):
    hits = find_placeholders(prompt)
    told = [(hit.placeholder, hit.attribute, hit.weight) for hit in hits]
    assert told == [(*one, "")[:3] for one in found]
    for hit in hits:
        weight = f":{hit.weight}>" if hit.weight else ">"
        assert prompt[hit.start : hit.end] == hit.word[:-1] + weight


def test_a_weight_in_the_brackets_is_the_one_of_the_prompt():
    texts = {"<my-dog>": "dog", "<my-dog:pose2>": "sitting"}
    prompt = "a <my-dog:0.8>, <my-dog>, <my-dog:pose2:1.2> and <cat:0.8>"
    replaced = replace_placeholders(prompt, texts)
    assert replaced == "a (dog:0.8), dog, (sitting:1.2) and <cat:0.8>"


@pytest.mark.parametrize(
    ("word", "nearest"),
    [
        ("<my-dgo>", "<my-dog>"),
        ("<My-Dog>", "<my-dog>"),
        ("<mydog>", "<my-dog>"),
        ("<my-dog:pos2>", "<my-dog:pose2>"),
        ("<ME>", "<me>"),
        ("<castle>", ""),
    ],
)
def test_the_word_that_may_be_meant(word, nearest):
    assert nearest_word(word, ["<me>", "<my-dog>", "<my-dog:pose2>"]) == nearest
    assert nearest_word(word, []) == ""


def test_an_attribute_is_written_inside_the_brackets():
    assert attribute_placeholder("<my-dog>", "pose2") == "<my-dog:pose2>"


@pytest.mark.parametrize(
    "written",
    ["<my-dog>", "< my-dog >", "\uff1cmy-dog\uff1e", "\uff1c my-dog>", "embedding:<my-dog>"],
)
def test_other_spellings_are_the_same_word(written):
    prompt = f"a photo of {written} on the beach"
    (mention,) = find_placeholders(prompt)
    assert (mention.word, prompt[mention.start : mention.end]) == ("<my-dog>", written)
    assert mention.exact == (written == "<my-dog>")
    assert replace_placeholders(prompt, {"<my-dog>": "X"}) == "a photo of X on the beach"
    assert replace_placeholders(prompt, {}) == prompt


def test_weights_and_attributes_in_other_spellings():
    (mention,) = find_placeholders("\uff1cmy-dog:pose2:0.8 >")
    assert (mention.word, mention.weight) == ("<my-dog:pose2>", "0.8")
