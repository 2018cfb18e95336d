"""Unseen individuals and the jury: the same again, told apart, asked and answered."""

from __future__ import annotations

import pytest
import torch
from personalize.miniature.files import JUDGES, WEIGHTS, BadWeights
from personalize.miniature.subjects import (
    FACE_PROMPTS,
    THING_PROMPTS,
    Jury,
    Prompt,
    Scores,
    face,
    mean_scores,
    prompts_for,
    thing,
)
from personalize.miniature.world.factors import FACTORS

needs_weights = pytest.mark.skipif(
    not (WEIGHTS / JUDGES).exists(), reason="no weights: see miniature/MODEL_CARD.md"
)


@pytest.fixture(scope="module")
def jury() -> Jury:
    return Jury.load()


@pytest.mark.parametrize("make", [thing, face])
def test_a_number_is_always_the_same_subject(make) -> None:
    one, again, other = make(3), make(3), make(4)
    assert torch.equal(one.references.pictures, again.references.pictures)
    assert torch.equal(one.witnesses, again.witnesses)
    assert not torch.equal(one.references.pictures, other.references.pictures)


def test_references_show_the_subject_and_witnesses_are_other_views() -> None:
    subject = thing(0)
    assert subject.references.pictures.shape == (4, 128, 128, 3)
    assert subject.references.masks.shape == (4, 128, 128)
    assert 0.03 < float(subject.references.masks.mean()) < 0.6
    assert len(subject.witnesses) == len(subject.blank_witnesses) == 8
    for picture in subject.references.pictures:
        assert all(not torch.equal(picture, witness) for witness in subject.witnesses)
    assert (subject.blank_witnesses[:, 0, 0] == 1).all()


def test_prompts_ask_for_what_the_judge_can_read() -> None:
    for prompt in THING_PROMPTS + FACE_PROMPTS:
        assert prompt.text.count("{}") == 1
        assert all(option in FACTORS[factor] for factor, option in prompt.asked.items())
    assert len(prompts_for(thing(0))) == len(prompts_for(face(0))) == 10
    assert prompts_for(face(0), 4) == FACE_PROMPTS[:4]
    assert len(prompts_for(thing(0), 15)) == len(prompts_for(face(0), 15)) == 15
    assert len({prompt.text for prompt in THING_PROMPTS + FACE_PROMPTS}) > 26
    assert Prompt("a {} at sunset", {}).about("blue mug") == "a blue mug at sunset"


@needs_weights
@pytest.mark.parametrize("make", [thing, face])
def test_the_jury_knows_an_individual_from_another_of_its_class(jury: Jury, make) -> None:
    own, others = [], []
    for number in range(6):
        subject, other = make(number), make(number + 9)
        assert subject.class_word == other.class_word
        own.append(jury.likeness(subject.references.pictures, subject.witnesses).mean())
        others.append(jury.likeness(other.references.pictures, subject.witnesses).mean())
    assert min(own) > 0.7
    assert float(sum(own) - sum(others)) / 6 > 0.4


@needs_weights
def test_scores_see_what_was_asked(jury: Jury) -> None:
    subject = thing(2)
    seen = jury.score(subject, Prompt("a photo of a {}", {"pose": "right"}), subject.witnesses)
    assert len(seen) == 8
    mean = mean_scores(seen)
    assert mean.kind > 0.6 and mean.likeness > 0.7 and mean.likeness_fg > 0.7
    wrong = jury.score(thing(3), Prompt("a {}", {"pose": "front"}), subject.witnesses)
    assert mean_scores(wrong).kind < 0.4 and mean_scores(wrong).edits == 0
    assert mean_scores(wrong).likeness < mean.likeness
    assert mean_scores(wrong).clip_t < mean.clip_t


@needs_weights
def test_pictures_of_another_size_are_judged_too(jury: Jury) -> None:
    subject = face(1)
    larger = torch.nn.functional.interpolate(
        subject.witnesses.movedim(-1, 1), (256, 192), mode="bilinear"
    ).movedim(1, -1)
    scores = jury.score(subject, Prompt("a photo of a {}", {"pose": "front"}), larger)
    assert len(scores) == 8 and mean_scores(scores).kind > 0.5


def test_the_mean_of_no_scores_is_refused() -> None:
    assert mean_scores([Scores(0, 0, 0, 0, 0, 0), Scores(1, 1, 1, 1, 1, 1)]).edits == 0.5
    with pytest.raises(ValueError, match="no scores"):
        mean_scores([])


def test_a_missing_judge_is_told_in_a_sentence(tmp_path) -> None:
    with pytest.raises(BadWeights, match="There is no .*judges"):
        Jury.load(tmp_path)
