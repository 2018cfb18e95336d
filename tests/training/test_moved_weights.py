"""A GPU in a test: nothing breaks when the host gives the weights another memory at each load."""

import pytest
import torch
from personalize.host.autograd import is_hybrid
from personalize.host.devices import on_device
from personalize.host.sam import load_sam, predict_masks
from personalize.samplers.apply import apply_concept
from personalize.tests.conftest import load_tiny
from personalize.tests.devices import not_played
from personalize.tests.elite_models import clip_vision, random_encoder
from personalize.tests.moving_host import move, sampled, weights_of
from personalize.tests.sam_models import save_sam
from personalize.tests.trainers import (
    TRAINERS,
    TRAINERS_AND_KINDS,
    noise,
    run_trainer,
    square_masks,
)
from personalize.training.elite.encoding import encode_elite

pytestmark = pytest.mark.host


@pytest.mark.parametrize(("trainer", "kind"), TRAINERS_AND_KINDS)
def test_training_does_not_depend_on_where_the_weights_lie(moves, trainer, kind, request):
    path = request.getfixturevalue(f"tiny_{kind}").path
    fresh = load_tiny(path, kind)
    before = sampled(fresh)
    del moves[:]
    moved = run_trainer(trainer, fresh)
    assert f"Tiny{kind.upper()}Clip" in moves, "the test plays no move"
    assert torch.equal(sampled(fresh), before)
    assert not any(is_hybrid(weight) for weight in weights_of(fresh))
    assert moved.equals(run_trainer(trainer, load_tiny(path, kind)))


@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_preview_may_load_and_patch_what_it_likes(fresh_sd1, moves, trainer):
    seen = []

    def preview(report):
        with report.backbone.paused():
            if "elite" in trainer:
                seen.append(sampled(fresh_sd1))
            else:
                concept = report.learner.to_concept()
                model, clip = apply_concept(fresh_sd1.model, fresh_sd1.clip, concept, 0.5)
                seen.append(sampled(fresh_sd1, model, clip, "a photo of <my-dog>"))

    with_previews = run_trainer(trainer, fresh_sd1, preview)
    assert with_previews.equals(run_trainer(trainer, fresh_sd1)) and len(seen) == 3
    assert not any(is_hybrid(weight) for weight in weights_of(fresh_sd1))


@not_played("the moves are played here, and its weights take no new memory")
@pytest.mark.parametrize("trainer", ["custom diffusion", "detex"])
def test_the_model_makes_pictures_of_the_class_before_it_learns(
    fresh_sd1, tiny_sd1, moves, trainer
):
    moved = run_trainer(trainer, fresh_sd1, prior_count=1)
    assert moved.equals(run_trainer(trainer, load_tiny(tiny_sd1.path, "sd1"), prior_count=1))


def test_elite_encodes_and_sam_segments(fresh_sd1, moves, tmp_path):
    vision, encoder = clip_vision(), random_encoder(fresh_sd1)
    sam = load_sam(save_sam(tmp_path / "sam_tiny.pth"))
    for _ in range(2):  # the second time each is loaded already
        encode_elite(encoder, vision, noise(1, 64, 64, 3), square_masks(1))
        predict_masks(sam, noise(40, 50, 3), [(20.0, 15.0)], [1])
    assert len(moves) == 4
    assert not any(is_hybrid(weight) for weight in vision.model.parameters())
    assert not any(is_hybrid(weight) for weight in sam.patcher.model.parameters())


def test_networks_of_ours_move_in_inference_mode_too(monkeypatch):
    with torch.inference_mode():  # as a node makes them
        network = torch.nn.Linear(3, 3)
    monkeypatch.setattr(network, "to", lambda device: move(network))
    for _ in range(2):
        with on_device(network), torch.inference_mode():
            network(torch.ones(1, 3))
    assert not is_hybrid(network.weight)


@pytest.mark.parametrize("trainer", TRAINERS)
def test_weights_that_others_moved_wrongly_are_cured_for_the_training(fresh_sd1, tiny_sd1, trainer):
    with torch.inference_mode(False):
        move(fresh_sd1.model.model)
        move(fresh_sd1.clip.cond_stage_model)
    assert any(is_hybrid(weight) for weight in weights_of(fresh_sd1))
    cured = run_trainer(trainer, fresh_sd1)
    assert cured.equals(run_trainer(trainer, load_tiny(tiny_sd1.path, "sd1")))
