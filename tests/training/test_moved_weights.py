"""A GPU in a test: the host gives every weight another memory whenever it loads a model.

`module.to(device)` does `parameter.data = moved` and puts moved buffers into the module. On a CPU
the host has nothing to move, so a load at the wrong moment goes unseen there.
"""

import pytest
import torch
from personalize.host.autograd import is_hybrid
from personalize.host.devices import on_device
from personalize.host.sam import load_sam, predict_masks
from personalize.samplers.apply import apply_concept
from personalize.tests.conftest import load_tiny
from personalize.tests.elite_models import clip_vision, random_encoder
from personalize.tests.sam_models import save_sam
from personalize.tests.trainers import TRAINERS, noise, run_trainer, square_masks
from personalize.training.elite.encoding import encode_elite

pytestmark = pytest.mark.host


@pytest.fixture
def fresh(tiny_sd1):
    """Tiny models of this test's own, since a mistake breaks them."""
    return load_tiny(tiny_sd1.path, "sd1")


def move(module):
    for part in module.modules():
        for weight in part.parameters(recurse=False):
            weight.data = weight.data.clone()
        for name, buffer in list(part._buffers.items()):
            if buffer is not None:
                part._buffers[name] = buffer.clone()


@pytest.fixture
def moves(monkeypatch):
    """Names of the models that the host has loaded, each time into new memory."""
    from comfy import model_management

    load, moved = model_management.load_models_gpu, []

    def load_and_move(models, *args, **kwargs):
        load(models, *args, **kwargs)
        for patcher in models:
            move(patcher.model)
            moved.append(type(patcher.model).__name__)

    monkeypatch.setattr(model_management, "load_models_gpu", load_and_move)
    return moved


@torch.inference_mode()
def sample(tiny, model=None, clip=None, text="a photo of a dog"):
    from nodes import CLIPTextEncode, KSampler

    encode = CLIPTextEncode().encode
    positive, negative = (encode(clip or tiny.clip, t)[0] for t in (text, ""))
    latent = {"samples": torch.zeros(1, 4, 8, 8)}
    settings = (3, 2, 3.0, "euler", "normal", positive, negative, latent, 1.0)
    latents = KSampler().sample(model or tiny.model, *settings)[0]["samples"]
    return torch.cat([positive[0][0].flatten(), tiny.vae.decode(latents).flatten()])


def weights_of(tiny):
    modules = (tiny.model.model, tiny.clip.cond_stage_model, tiny.vae.first_stage_model)
    return [weight for module in modules for weight in module.parameters()]


@pytest.mark.parametrize("trainer", TRAINERS)
def test_training_does_not_depend_on_where_the_weights_lie(fresh, tiny_sd1, moves, trainer):
    before = sample(fresh)
    del moves[:]
    moved = run_trainer(trainer, fresh)
    assert "TinySD1Clip" in moves, "the test plays no move"
    assert torch.equal(sample(fresh), before)
    assert not any(is_hybrid(weight) for weight in weights_of(fresh))
    assert moved.equals(run_trainer(trainer, load_tiny(tiny_sd1.path, "sd1")))


@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_preview_may_load_and_patch_what_it_likes(fresh, moves, trainer):
    seen = []

    def preview(report):
        with report.backbone.paused():
            if "elite" in trainer:
                seen.append(sample(fresh))
            else:
                concept = report.learner.to_concept()
                model, clip = apply_concept(fresh.model, fresh.clip, concept, 0.5)
                seen.append(sample(fresh, model, clip, "a photo of <my-dog>"))

    with_previews = run_trainer(trainer, fresh, preview)
    assert with_previews.equals(run_trainer(trainer, fresh)) and len(seen) == 3
    assert not any(is_hybrid(weight) for weight in weights_of(fresh))


@pytest.mark.parametrize("trainer", ["custom diffusion", "detex"])
def test_the_model_makes_pictures_of_the_class_before_it_learns(fresh, tiny_sd1, moves, trainer):
    moved = run_trainer(trainer, fresh, prior_count=1)
    assert moved.equals(run_trainer(trainer, load_tiny(tiny_sd1.path, "sd1"), prior_count=1))


def test_elite_encodes_and_sam_segments(fresh, moves, tmp_path):
    vision, encoder = clip_vision(), random_encoder(fresh)
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
def test_weights_that_others_moved_wrongly_are_cured_for_the_training(fresh, tiny_sd1, trainer):
    with torch.inference_mode(False):
        move(fresh.model.model)
        move(fresh.clip.cond_stage_model)
    assert any(is_hybrid(weight) for weight in weights_of(fresh))
    cured = run_trainer(trainer, fresh)
    assert cured.equals(run_trainer(trainer, load_tiny(tiny_sd1.path, "sd1")))
