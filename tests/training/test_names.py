from pathlib import Path

import pytest

NAMES = Path(__file__).resolve().parents[2] / "training" / "names.txt"


@pytest.fixture(scope="module")
def names() -> list[str]:
    return NAMES.read_text(encoding="utf-8").splitlines()


def test_many_names_without_duplicates(names: list[str]) -> None:
    assert len(names) >= 600
    assert len({name.lower() for name in names}) == len(names)
    assert all(len(name.split(" ")) == 2 for name in names)


def test_no_name_weighs_too_much(names: list[str]) -> None:
    for part in (0, 1):
        words = [name.split(" ")[part] for name in names]
        assert max(words.count(word) for word in set(words)) <= 5


@pytest.mark.host
def test_each_word_is_one_token(names: list[str]) -> None:
    from comfy.sd1_clip import SDTokenizer

    tokenizer = SDTokenizer()
    broken = [
        name
        for name in names
        if len([token for token, _ in tokenizer.tokenize_with_weights(name)[0] if token < 49406])
        != 2
    ]
    assert not broken, f"names whose words are not one token each: {broken}"
