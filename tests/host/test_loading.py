"""How the host holds weights on a GPU, played on the CPU: what is left behind, evicted, dynamic."""

import gc
import logging
import shutil
from typing import Any

import pytest
import torch
from personalize.host.loading import plain_clone
from personalize.tests.conftest import load_tiny
from personalize.tests.dynamic_vram import dynamic_vram
from personalize.tests.moving_host import sampled
from personalize.tests.played_device import CPU, PLAYED, host_with, played_device
from personalize.tests.trainers import run_trainer

pytestmark = pytest.mark.host

LORA = "diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight"
TRAINERS = "textual inversion", "custom diffusion"
METHODS = pytest.mark.parametrize("trainer", TRAINERS)


@pytest.fixture(scope="module")
def on_cpu(tiny_sd1):
    """The trainings of these tests on the CPU."""
    tiny = with_lora(load_tiny(tiny_sd1.path, "sd1"))
    return {trainer: run_trainer(trainer, tiny) for trainer in TRAINERS}


@pytest.fixture
def played(on_cpu):
    with played_device() as device, host_with(device):
        yield device


def with_lora(tiny, key=LORA):
    """The same models with a LoRA on a weight that some methods train."""
    model = tiny.model.clone()
    shape = model.model_state_dict()[key].shape
    noise = 0.2 * torch.randn(shape, generator=torch.Generator().manual_seed(3))
    model.add_patches({key: ("diff", (noise,))})
    return type(tiny)(tiny.kind, tiny.path, model, tiny.clip, tiny.vae)


def places(backbone):
    """Where the weights are that a session computes with."""
    modules = backbone.denoiser.model.model.diffusion_model, backbone.text.clip.cond_stage_model
    return {weight.device for module in modules for weight in module.parameters()}


def close(one, other):
    """Losses of the same training on two devices."""
    return all(one.losses[k] == pytest.approx(other.losses[k], rel=1e-4) for k in one.losses)


@METHODS
@pytest.mark.parametrize("state", ["LOW_VRAM", "NO_VRAM"])
def test_a_training_loads_what_the_host_would_leave_behind(
    tiny_sd1, on_cpu, played, monkeypatch, trainer, state
):
    from comfy import model_management

    monkeypatch.setattr(model_management, "vram_state", model_management.VRAMState[state])
    tiny, seen = with_lora(load_tiny(tiny_sd1.path, "sd1")), []
    before = sampled(tiny)
    if state == "NO_VRAM":
        assert any(weight.device == CPU for weight in tiny.model.model.parameters())
    there = run_trainer(trainer, tiny, lambda report: seen.append(places(report.backbone)))
    assert seen == [{PLAYED}] * 3
    assert torch.equal(sampled(tiny), before)
    assert close(there, on_cpu[trainer])


@METHODS
def test_models_that_others_evicted_in_a_pause_are_loaded_again(tiny_sd1, played, trainer):
    from comfy import model_management

    tiny, seen = with_lora(load_tiny(tiny_sd1.path, "sd1")), []
    whole = run_trainer(trainer, tiny)

    def evict(report):
        with report.backbone.paused():
            if report.step == 1:
                model_management.unload_all_models()
            else:  # as an allocation that needs some of the memory
                for loaded in list(model_management.current_loaded_models):
                    loaded.model.partially_unload(loaded.model.offload_device, 1e6)
            seen.append({weight.device for weight in tiny.model.model.parameters()})
        assert places(report.backbone) == {PLAYED}

    assert run_trainer(trainer, tiny, evict).equals(whole)
    assert seen[0] == {CPU} and CPU in seen[1]


def loaded_dynamically(path, kind):
    """Tiny models that the host loads with dynamic VRAM; in a block of `dynamic_vram`."""
    tiny = load_tiny(path, kind)
    assert tiny.model.is_dynamic() and tiny.clip.patcher.is_dynamic()
    return with_lora(tiny)


@pytest.fixture
def dynamic(tiny_sd1, played, tmp_path):
    """They, from a file of their own."""
    path = shutil.copy(tiny_sd1.path, tmp_path / "tiny.safetensors")
    with dynamic_vram():
        yield loaded_dynamically(path, "sd1")


def reads(monkeypatch):
    """Files that the host reads from now on."""
    import comfy.utils

    read, seen = comfy.utils.load_torch_file, []

    def noted(path, *args, **kwargs):
        seen.append(path)
        return read(path, *args, **kwargs)

    monkeypatch.setattr(comfy.utils, "load_torch_file", noted)
    return seen


def models_there():
    """Every model that the host holds on the played device."""
    from comfy import model_management

    loaded: Any = model_management.current_loaded_models
    return [one.real_model() for one in loaded if one.device == PLAYED]


def models_in_memory(tiny):
    """How many UNets and text encoders of these kinds there are, on any device."""
    gc.collect()
    kinds = {type(tiny.model.model), type(tiny.clip.cond_stage_model)}
    return sum(type(one) in kinds for one in gc.get_objects())


@pytest.mark.parametrize(
    ("trainer", "file"),
    [
        ("textual inversion", "there"),
        ("textual inversion", "gone"),
        pytest.param("textual inversion", "never told", marks=pytest.mark.nightly),
        ("custom diffusion", "there"),
        pytest.param("custom diffusion", "gone", marks=pytest.mark.nightly),
        pytest.param("custom diffusion", "never told", marks=pytest.mark.nightly),
    ],
)
def test_trains_beside_a_dynamic_model(on_cpu, dynamic, monkeypatch, caplog, trainer, file):
    before, read = sampled(dynamic), reads(monkeypatch)
    if file == "gone":
        dynamic.path.unlink()
    elif file == "never told":  # by a loader of another pack
        dynamic.model.cached_patcher_init = dynamic.clip.patcher.cached_patcher_init = None
    count = models_in_memory(dynamic)
    with caplog.at_level(logging.WARNING):
        first = run_trainer(trainer, dynamic)
    kept = models_in_memory(dynamic)
    assert kept == count + 2 * (file == "there")  # the host's own plain ones, by its own choice
    assert ("takes the weights that are in memory" in caplog.text) == (file != "there")
    own = [dynamic.model.model, dynamic.clip.patcher.model, dynamic.vae.first_stage_model]
    assert all(any(model is one for one in own) for model in models_there()), "one is left"
    assert torch.equal(sampled(dynamic), before)
    del read[:]
    assert run_trainer(trainer, dynamic).equals(first)
    assert not read or file == "gone"  # the host keeps what it has read beside the dynamic model
    assert models_in_memory(dynamic) == kept
    assert close(first, on_cpu[trainer])


@METHODS
def test_trains_beside_a_dynamic_sdxl(tiny_sdxl, trainer):
    here = run_trainer(trainer, with_lora(load_tiny(tiny_sdxl.path, "sdxl")), steps=1)
    with played_device() as device, host_with(device), dynamic_vram():
        dynamic = loaded_dynamically(tiny_sdxl.path, "sdxl")
        before = sampled(dynamic)
        assert close(run_trainer(trainer, dynamic, steps=1), here)
        assert torch.equal(sampled(dynamic), before)


@pytest.mark.parametrize("file", ["there", "gone"])
def test_a_plain_clone_has_the_models_types_and_leaves_the_dynamic_one_alone(dynamic, file):
    before = sampled(dynamic)
    if file == "gone":
        dynamic.path.unlink()
    with torch.inference_mode():
        plain = plain_clone(dynamic.model)
    assert not plain.is_dynamic() and not plain.is_clone(dynamic.model)
    assert {w.dtype for w in plain.model.diffusion_model.parameters()} == {torch.float32}
    assert not any(hasattr(module, "_v") for module in plain.model.modules())
    plain_sampled = type(dynamic)("sd1", dynamic.path, plain, dynamic.clip, dynamic.vae)
    assert torch.allclose(sampled(plain_sampled).cpu(), before.cpu(), rtol=1e-3, atol=1e-3)
    assert torch.equal(sampled(dynamic), before)
