"""The study of an ELITE encoder runs with any encoder of the miniature, and counts rightly."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from personalize.miniature.files import CHECKPOINT, WEIGHTS
from personalize.miniature.subjects import Jury, Scores, thing
from personalize.studies import elite_study, miniature_models
from personalize.studies.elite_study import (
    Drawn,
    comparison,
    report,
    sheet,
    study,
    subjects,
    table,
)
from personalize.tests.elite_models import moved, random_stage, weights_of

pytestmark = pytest.mark.host


def scores(likeness, edits=1.0):
    return Scores(likeness, likeness, likeness, edits, 1.0, 0.3)


def made_up(*pairs):
    """A subject each pair of likenesses, in two ways."""
    return [
        Drawn(thing(n), {"a": torch.zeros(1, 128, 128, 3), "b": torch.zeros(1, 128, 128, 3)},
              {"a": [scores(a)], "b": [scores(b, 0.5)]})
        for n, (a, b) in enumerate(pairs)
    ]  # fmt: skip


def test_means_and_comparisons():
    results = made_up((0.5, 0.2), (0.7, 0.3), (0.1, 0.4))
    lines = table(results)
    assert lines[2].startswith("| a | 0.433 ± 0.176 | 0.433") and len(lines) == 4
    assert lines[3].endswith("| 0.500 | 1.000 |")
    says = "likeness: 'a' minus 'b' is +0.133 ± 0.219, above in 2 of 3"
    assert comparison(results, "a", "b", "likeness") == says


def test_subjects_are_things_and_faces():
    chosen = subjects(8)
    assert [s.is_person for s in chosen] == [False, False, False, True] * 2
    assert len({s.name for s in chosen}) == 8


@pytest.fixture(scope="module")
def miniature():
    if not (WEIGHTS / CHECKPOINT).exists():
        pytest.skip("no weights: see miniature/MODEL_CARD.md")
    from personalize.studies.miniature_models import load_miniature

    return load_miniature()


@pytest.fixture(scope="module")
def encoder(miniature):
    from personalize.concepts.elite import EliteEncoder
    from personalize.host.vision import vision_shape

    own, shape = weights_of(miniature.model), vision_shape(miniature.vision)
    stages = [random_stage(moved(own, n, 0.1), 128, n, shape.width) for n in range(2)]
    return EliteEncoder("random", "sd1", 128, shape, *stages)


@pytest.mark.parametrize("what", elite_study.STUDIES)
def test_each_study_runs(miniature, encoder, what, monkeypatch):
    monkeypatch.setattr(miniature_models, "STEPS", 1)
    results = list(study(what, encoder, miniature, Jury.load(), 1, 1))
    text = report(what, encoder, results)
    ways = list(results[0].pictures)
    assert all(f"| {way} | " in text for way in ways) and "1 individuals, 1 prompts" in text
    pictures = [results[0].pictures[way] for way in ways]
    assert all(p.shape == (1, 128, 128, 3) for p in pictures)
    assert all(not torch.equal(a, b) for a, b in pairwise(pictures))
    assert sheet(results).width == (1 + len(ways)) * 132


@pytest.mark.parametrize("what", ["table", "pictures"])
def test_an_encoder_of_words_alone(miniature, encoder, what, monkeypatch):
    monkeypatch.setattr(miniature_models, "STEPS", 1)
    words = replace(encoder, local_stage=None)
    results = list(study(what, words, miniature, Jury.load(), 1, 1))
    assert len(results[0].pictures) == (4 if what == "table" else 2)
    assert "details" not in report(what, words, results)
