"""The committed ELITE encoder of the miniature: its file, and that it does what it is for."""

from statistics import mean

import pytest
from personalize.concepts.elite_files import load_encoder
from personalize.miniature.files import CHECKPOINT, ELITE, VISION, WEIGHTS
from safetensors import safe_open

pytestmark = pytest.mark.host

FILE = WEIGHTS / ELITE


@pytest.fixture(scope="module")
def miniature():
    if not all((WEIGHTS / name).exists() for name in (CHECKPOINT, VISION, ELITE)):
        pytest.skip("no weights: see miniature/MODEL_CARD.md")
    from personalize.studies.miniature_models import load_miniature

    return load_miniature()


def test_the_file_is_small_and_free(miniature):
    from personalize.host.vision import vision_shape

    assert FILE.stat().st_size <= 5e6
    with safe_open(FILE, "pt") as file:
        assert file.metadata()["licence"] == "CC0-1.0"
    encoder = load_encoder(FILE)
    assert (encoder.name, encoder.base) == ("miniature_elite", "sd1")
    assert encoder.vision == vision_shape(miniature.vision)


@pytest.mark.slow
@pytest.mark.nightly  # of the weights, which change once a release
def test_unseen_individuals_are_nearer_than_their_class_word_and_keep_the_class(miniature):
    from personalize.miniature.subjects import Jury, prompts_for
    from personalize.studies.elite_study import (
        BOTH,
        CLASS,
        GLOBAL,
        ablation,
        draw,
        of_subject,
        subjects,
    )

    encoder, jury = load_encoder(FILE), Jury.load()
    gains, edits, kinds = ({GLOBAL: [], BOTH: []} for _ in range(3))
    for subject in subjects(6):
        ways = ablation(encoder, miniature, subject)
        compared = {name: ways[name] for name in (CLASS, *gains)}
        drawn = draw(miniature, jury, subject, compared, prompts_for(subject, 2))
        bare = of_subject(drawn, CLASS, "likeness")
        for way in gains:
            gains[way].append(of_subject(drawn, way, "likeness") - bare)
            edits[way].append(of_subject(drawn, way, "edits"))
            kinds[way].append(of_subject(drawn, way, "kind"))
    assert all(mean(values) > 0.15 for values in gains.values())
    assert all(mean(values) > 0.75 for values in edits.values())
    assert all(mean(values) > 0.9 for values in kinds.values())
