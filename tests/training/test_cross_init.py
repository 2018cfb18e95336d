"""Where Cross Initialization's words start, and what pulls them back there."""

import pytest
import torch
from personalize.tests.training.toy import ToyText
from personalize.training.cross_init import (
    CrossInitConfig,
    encoded_words,
    initial_tokens,
    initial_words,
    mean_distance,
    mean_name,
    squared_distance,
    subject_pieces,
)
from personalize.training.names import known_names

pytestmark = pytest.mark.host


def config(**changes):
    return CrossInitConfig(placeholder="<me>", **changes)


def mean(text, words):
    return sum(text.tokenize(word)[0][0] for word in words) / len(words)


def test_a_name_is_the_mean_of_all_first_and_of_all_last_names():
    text = ToyText()
    first, last = zip(*known_names(), strict=True)
    assert mean_name(text)[:, 0].tolist() == pytest.approx([mean(text, first), mean(text, last)])


@pytest.mark.parametrize("count", [1, 2, 4])
def test_words_start_from_a_first_name_and_last_names(count):
    """The toy encoder adds a half to each row."""
    text = ToyText()
    first, last = mean_name(text)[:, 0].tolist()
    rows = initial_words(text, config(words=count))
    assert rows[:, 0].tolist() == pytest.approx([n + 0.5 for n in (first, *[last] * (count - 1))])


def test_words_start_from_the_class_word_whose_last_token_is_repeated():
    text = ToyText()
    blue, teddy = (token for (token,) in text.tokenize("blue teddy"))
    asked = config(init_from="class word", class_word="dog", initial_words="blue teddy", words=3)
    assert initial_words(text, asked)[:, 0].tolist() == [n + 0.5 for n in (blue, teddy, teddy)]
    (dog,) = text.tokenize("dog")
    assert initial_tokens(text, "dog") == [dog, dog]
    assert initial_tokens(text, "blue teddy", 1) == [(blue,), (teddy,)]


def test_literally_they_start_from_what_the_unet_reads():
    text, words = ToyText(), torch.arange(8.0).view(2, 4)
    assert torch.equal(encoded_words(text, words), words + 0.5)
    assert torch.equal(encoded_words(text, words, literal=True), words)


def test_the_distance_is_a_mean_over_words_also_of_one_that_stayed():
    initial = torch.zeros(3, 4)
    words = torch.tensor([[0.0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 1]], requires_grad=True)
    distance = mean_distance(words, initial)
    assert distance.item() == pytest.approx((0 + 5 + 1) / 3)
    (gradient,) = torch.autograd.grad(distance, [words])
    expected = torch.tensor([[0.0, 0, 0, 0], [0.6, 0, 0.8, 0], [0, 0, 0, 1]]) / 3
    assert torch.allclose(gradient, expected)
    assert squared_distance(words, initial).item() == 26.0


def test_only_people_are_faces_and_illustrations():
    assert subject_pieces("person", 2) == ["face of ", range(2), " person"]
    assert subject_pieces("dog", 3) == ["", range(3), " dog"]
    assert config().about_people and not config(class_word="dog").about_people
    assert not config(illustrations=False).about_people
