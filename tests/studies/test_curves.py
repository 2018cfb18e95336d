"""What training does to the words and to the loss, as the papers' curves show it."""

import pytest
import torch
from personalize.studies.curves import PANEL, Settings, draw_curves, learning_curves, load_pictures

pytestmark = pytest.mark.host

SETTINGS = Settings(resolution=64, steps=36, batch_size=2, learning_rate=0.02, every=4)


@pytest.fixture(
    scope="module", params=["tiny_sd1", pytest.param("tiny_sd2v", marks=pytest.mark.nightly)]
)
def curves(request):
    tiny = request.getfixturevalue(request.param)
    with torch.inference_mode():  # as in a node
        return learning_curves(tiny.model, tiny.clip, tiny.vae, load_pictures([]), SETTINGS)


def mean_loss(points):
    return sum(point.loss for point in points) / len(points)


def test_the_loss_on_held_noises_falls(curves):
    for points in curves.values():
        third = len(points) // 3
        first, middle, last = points[:third], points[third:-third], points[-third:]
        assert mean_loss(first) > mean_loss(middle) > mean_loss(last)
        assert points[0].loss > points[-1].loss


def test_words_of_textual_inversion_drift_far_and_those_of_cross_init_stay(curves):
    drifted, stayed = (points[-1] for points in curves.values())
    assert drifted.drift > 5 * stayed.drift
    assert drifted.turned < 0.7 < 0.9 < stayed.turned
    assert max(p.norm for p in curves["Cross Initialization"]) < 1.2 * stayed.norm


def test_words_of_cross_init_are_near_what_the_encoder_makes_of_them(curves):
    drifted, stayed = curves.values()
    assert max(p.cosine for p in drifted) < min(p.cosine for p in stayed)


def test_curves_begin_at_the_start(curves):
    for points in curves.values():
        assert [p.step for p in points] == list(range(0, SETTINGS.steps + 1, SETTINGS.every))
        assert points[0].drift == 0
    assert draw_curves(curves).size == (2 * PANEL[0], 2 * PANEL[1])
