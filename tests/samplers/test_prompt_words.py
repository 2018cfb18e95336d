"""Placeholders as each text encoder reads them."""

from dataclasses import dataclass

import pytest
import torch
from personalize.concepts import methods
from personalize.concepts.concept import Concept
from personalize.samplers.prompt_words import AppliedConcept, PlaceholderWords, mark_of
from personalize.samplers.strength import Strength

WIDTHS = (2, 3)


@dataclass
class Tower:
    """Of whose vocabulary a word's number is its length."""

    name: str

    def tokenize(self, text):
        return [len(word) for word in text.split()]


def concept(method=methods.TEXTUAL_INVERSION, class_word="big dog", **words):
    words = {"": torch.arange(10.0).view(2, 5)} | words
    return Concept(method, "sd1", 5, "<x>", class_word, words=words)


def words_of(one, n, strength=1.0):
    applied = AppliedConcept(one, Strength(strength))
    words = PlaceholderWords(Tower("clip_l"), lambda word: word.split(WIDTHS, dim=-1)[n], [applied])
    return applied, words


@pytest.mark.parametrize(("n", "columns"), [(0, slice(0, 2)), (1, slice(2, 5))])
def test_each_encoder_reads_its_own_part_of_a_word(n, columns):
    one = concept()
    _, words = words_of(one, n)
    found = words.read("<x> on the beach")
    assert found is not None
    tokens, name, rest = found
    assert (name, rest, tokens.shape) == ("<x>", "on the beach", (2, 1))
    assert torch.equal(torch.stack(list(tokens)), one.words[""][:, columns])


def test_marks_tell_concept_attribute_and_the_first_token():
    pose = torch.ones(1, 5)
    one = concept(methods.DETEX, pose2=pose)
    applied, words = words_of(one, 0)
    tokens = words.read("<x>")[0]
    assert [int(token) for token in tokens[2:]] == [3, 3]  # the class word stands behind
    marks = [mark_of(token) for token in tokens]
    assert {(mark.applied, mark.attribute) for mark in marks} == {(applied, "")}
    assert [mark.first for mark in marks] == [True, False, False, False]
    (attribute,) = words.read("<x:pose2> there")[0]
    assert mark_of(attribute).attribute == "pose2"
    assert mark_of(torch.zeros(1)) is None and mark_of(3) is None


def test_a_class_word_that_is_kept_stands_for_the_placeholder():
    one = Concept(methods.CATVERSION, "sd1", 5, "<x>", "big dog")
    _, words = words_of(one, 0)
    tokens = words.read("<x>")[0]
    assert list(tokens) == [3, 3] and all(map(mark_of, tokens))


def test_only_known_placeholders_are_rewritten():
    _, words = words_of(concept(), 0)
    text = "(<x>:1.2) <y> <x:pose1> x <x"
    assert words.rewrite(text) == "( embedding:<x> :1.2) <y> <x:pose1> x <x"
    assert words.read("<y>") is None and words.read("x") is None


def test_at_strength_0_the_class_word_is_written_and_attributes_are_not():
    _, words = words_of(concept(methods.DETEX, pose1=torch.ones(1, 5)), 0, 0.0)
    assert words.rewrite("a <x> in <x:pose1> pose") == "a big dog in  pose"
    assert words.read("<x>") is None
