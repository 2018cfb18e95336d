"""Facts of the bases, and a word's parts for several text encoders."""

import pytest
import torch
from personalize.concepts.bases import BASES, Base
from personalize.concepts.errors import ConceptFileError

TWO = Base("two", "Two Encoders", (("clip_l", 3), ("clip_g", 5)), 8, 64)


@pytest.mark.parametrize("base", BASES.values(), ids=list(BASES))
def test_keys_are_unique_and_a_word_is_as_wide_as_the_context(base):
    assert BASES[base.key] is base
    assert base.text_width == base.context_width
    assert base.resolution % 64 == 0


@pytest.mark.parametrize(("base", "width"), [(BASES["sd1"], 64), (BASES["sd2"], 1024), (TWO, 8)])
def test_split_and_join_are_inverse(base, width):
    words = torch.arange(2.0 * width).view(2, width)
    parts = base.split(words)
    assert tuple(parts) == base.encoder_names
    assert torch.equal(base.join(parts), words)


def test_a_word_of_two_encoders_has_its_parts_in_their_order():
    parts = TWO.split(torch.arange(8.0)[None])
    assert parts["clip_l"].tolist() == [[0, 1, 2]]
    assert parts["clip_g"].tolist() == [[3, 4, 5, 6, 7]]


def test_words_that_do_not_fit_are_refused():
    with pytest.raises(ConceptFileError, match="Two Encoders has 8 numbers, got 6"):
        TWO.split(torch.zeros(1, 6))
    with pytest.raises(ConceptFileError, match=r"equally many.*clip_l and clip_g.*\(2, 3\)"):
        TWO.join({"clip_l": torch.zeros(2, 3), "clip_g": torch.zeros(1, 5)})
    with pytest.raises(ConceptFileError, match="equally many"):
        TWO.join({"clip_l": torch.zeros(2, 3), "clip_g": torch.tensor(0.0)})
