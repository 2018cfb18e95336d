"""Every method on an accelerator that is played on the CPU: no mix of devices, no float64.

Once all models are on it, once the text encoder stays on the CPU, as it does with --lowvram, on
Apple's computers and on old cards.
"""

import logging

import pytest
import torch
from personalize.concepts.concept import Concept
from personalize.concepts.methods import Part
from personalize.host import autograd
from personalize.host.devices import on_device
from personalize.host.sam import load_sam, predict_masks
from personalize.samplers.apply import apply_concept
from personalize.tests import test_catversion, test_custom_diffusion, test_detex
from personalize.tests.conftest import load_tiny
from personalize.tests.elite_models import clip_vision, random_encoder
from personalize.tests.moving_host import sampled
from personalize.tests.played_device import CPU, PLAYED, DeviceMix, host_with, played_device
from personalize.tests.sam_models import save_sam
from personalize.tests.trainers import TRAINERS, noise, run_trainer, square_masks
from personalize.tests.training import test_parity
from personalize.training.elite.encoding import encode_elite

pytestmark = pytest.mark.host

TEXTS = pytest.mark.parametrize("text", [PLAYED, CPU], ids=["all there", "text on the CPU"])


@pytest.fixture
def played(tiny_sd1, text):
    """Tiny models on the played device; text: where their text encoder is."""
    with played_device() as device, host_with(device, text):
        yield load_tiny(tiny_sd1.path, "sd1")


def test_the_played_device_refuses_what_a_device_refuses():
    with played_device() as device:
        there, here = torch.ones(2, 2, device=device), torch.ones(2, 2)
        assert (there + 1).device == (there @ there.T).device == device
        assert (there.cpu() + here).device == CPU and there.sum().item() == 4
        assert there[torch.tensor([0])].shape == (1, 2)
        for operation in (torch.add, torch.matmul, torch.equal, torch.minimum):
            with pytest.raises(DeviceMix, match="one device"):
                operation(there, here)
        for indexed in (
            lambda: here[torch.zeros(1, dtype=torch.long, device=device)],
            lambda: there.index_put_((torch.tensor([0]),), torch.ones(1, 2)),
        ):
            with pytest.raises(DeviceMix, match="one device"):
                indexed()
        with pytest.raises(TypeError, match="no float64"):
            there.double()
        with pytest.raises(RuntimeError, match="shares no memory"):
            torch.empty(0, device=device).set_(there.untyped_storage(), 0, (2, 2))
        drawn = torch.randn(2, device=device, generator=torch.Generator(device).manual_seed(1))
        assert drawn.device == device and not torch.equal(drawn.cpu(), here[0])
        leaf = torch.ones(2, device=device, requires_grad=True)
        with torch.inference_mode():
            assert not leaf.detach().is_inference() and (leaf + 1).is_inference()
            assert not leaf[1:].is_inference()
        assert torch.autograd.grad((leaf * leaf).sum(), [leaf])[0].device == device


@TEXTS
@pytest.mark.parametrize("trainer", TRAINERS)
def test_trains_there_as_on_the_cpu(tiny_sd1, played, text, trainer, caplog):
    autograd._tell_copies.cache_clear()
    with caplog.at_level(logging.WARNING):
        there = run_trainer(trainer, played, steps=2)
    assert played.model.load_device == PLAYED and played.clip.patcher.load_device == text
    assert "cannot share a weight's memory" in caplog.text and "MB of weights" in caplog.text
    here = run_trainer(trainer, load_tiny(tiny_sd1.path, "sd1"), steps=2)
    for name, losses in here.losses.items():
        assert there.losses[name] == pytest.approx(losses, rel=1e-4), name


@pytest.mark.parametrize("text", [CPU], ids=["text on the CPU"])
@pytest.mark.parametrize("trainer", ["catversion", "elite local"])
def test_resumes_there_bit_equal(played, trainer, tmp_path):
    def stop(report):
        if report.step == 2:
            raise InterruptedError

    whole = run_trainer(trainer, played)
    with pytest.raises(InterruptedError):
        run_trainer(trainer, played, stop, tmp_path)
    resumed = run_trainer(trainer, played, lambda report: None, tmp_path, True)
    assert resumed.equals(whole)


def concepts(tiny):
    """One of each kind that acts differently in sampling, with vectors on the CPU as in files."""
    yield run_concept(tiny, "textual inversion")
    yield run_concept(tiny, "catversion")
    yield run_concept(tiny, "custom diffusion")
    yield encode_elite(random_encoder(tiny), clip_vision(), noise(1, 64, 64, 3), square_masks(1))


def run_concept(tiny, trainer) -> Concept:
    made = []
    run_trainer(trainer, tiny, lambda report: made.append(report.learner.to_concept()))
    return made[-1]


@TEXTS
def test_samples_there_as_on_the_cpu(tiny_sd1, played, text):
    here = load_tiny(tiny_sd1.path, "sd1")
    made = list(concepts(here))
    assert {part for concept in made for part in concept.method.parts} == set(Part)
    for concept in made:
        prompt = f"a photo of {concept.placeholder} on a beach"
        pictures = [
            sampled(tiny, *apply_concept(tiny.model, tiny.clip, concept, 0.7), prompt)
            for tiny in (here, played)
        ]
        assert torch.allclose(pictures[0], pictures[1].cpu(), atol=1e-3), concept.method


@pytest.mark.parametrize("text", [PLAYED], ids=["all there"])
def test_encodes_and_segments_there_as_on_the_cpu(played, tmp_path):
    picture, path = noise(40, 50, 3), save_sam(tmp_path / "sam_tiny.pth")
    there = predict_masks(load_sam(path), picture, [(20.0, 15.0)], [1])
    concept = encode_elite(
        random_encoder(played), clip_vision(), noise(1, 64, 64, 3), square_masks(1)
    )
    with on_device(torch.nn.Linear(3, 3)) as device:
        assert device == PLAYED
    with host_with(CPU):
        here = predict_masks(load_sam(path), picture, [(20.0, 15.0)], [1])
        same = encode_elite(
            random_encoder(played), clip_vision(), noise(1, 64, 64, 3), square_masks(1)
        )
    assert torch.equal(here[0], there[0]) and torch.allclose(here[1], there[1], atol=1e-5)
    for name, word in same.words.items():
        assert torch.allclose(concept.words[name].cpu(), word, atol=1e-4)


@pytest.mark.parametrize("text", [PLAYED], ids=["all there"])
@pytest.mark.parametrize("trainer", ["textual inversion", "detex"])
def test_while_it_learns_only_the_unet_and_the_text_encoder_are_there(played, trainer):
    """Also after a preview, for which the host loads the VAE."""
    from comfy import model_management

    there = []

    def vae_devices():
        return {weight.device for weight in played.vae.first_stage_model.parameters()}

    def on_step(report):
        loaded = model_management.current_loaded_models
        there.append({type(one.model.model) for one in loaded if one.device == PLAYED})
        with report.backbone.paused():
            sampled(played)
            assert vae_devices() == {PLAYED}
        assert vae_devices() == {CPU}

    run_trainer(trainer, played, on_step, steps=2)
    wanted = {type(played.model.model), type(played.clip.cond_stage_model)}
    assert there == [wanted, wanted]


@pytest.mark.parametrize("text", [PLAYED], ids=["all there"])
@pytest.mark.parametrize(
    "test",
    [
        lambda tiny: test_parity.test_encodes_as_the_host_does(tiny, None),
        lambda tiny: test_parity.test_predicts_as_the_hosts_unet_does(tiny),
        lambda tiny: test_detex.test_maps_equal_diffusers_attention(tiny),
        lambda tiny: test_custom_diffusion.test_gradients_equal_diffusers(tiny, 0.7, False),
        lambda tiny: test_catversion.test_gradient_of_one_step_equals_the_plain_computation(
            tiny, 4, 0.0
        ),
    ],
    ids=["text", "unet", "maps", "projections", "residuals"],
)
def test_tests_of_the_suite_know_no_device(played, test):
    """Some of them; PERSONALIZE_DEVICE=played runs all."""
    test(played)
