"""How many pictures fit at once, what is said where they do not, and how true the count is."""

import logging
from types import SimpleNamespace

import pytest
import torch
from personalize.concepts.errors import TrainingError
from personalize.host.backbone import Backbone
from personalize.host.footprint import Allocated, DeviceMemory, StepShape, needed, shapes_text
from personalize.tests.devices import cpu_only, not_played, there
from personalize.tests.trainers import run_trainer
from personalize.tests.training.test_parity import LATENTS
from personalize.training.memory import GIB, RESERVE, fitted
from personalize.training.textual_inversion import TextualInversionConfig

pytestmark = pytest.mark.host


def config(**changes):
    settings = {"batch_size": 8, "resolution": 512} | changes
    return TextualInversionConfig(placeholder="<x>", init_word="dog", **settings)


def on_gpu(free, total=24 * GIB, models=2 * GIB, casts=0):
    """A backbone whose steps need 1 GiB and half a GiB a picture, on a GPU with so much memory."""
    cast = []
    return SimpleNamespace(
        memory=lambda: DeviceMemory(free + RESERVE, total),
        step_bytes=lambda rows, maps: GIB + rows * GIB // 2,
        model_bytes=lambda: models,
        cast_bytes=lambda: casts,
        cast_once=lambda: cast.append(casts),
        cast=cast,
    )


@pytest.mark.parametrize(
    ("free", "size"),
    [(5 * GIB, 0), (5 * GIB - 1, 4), (3 * GIB, 4), (3 * GIB - 1, 3), (2 * GIB, 2), (0, 1)],
)
def test_as_many_pictures_go_at_once_as_there_is_memory_for(free, size, caplog):
    """In parts as equal as can be, so that none is larger than it must be."""
    with caplog.at_level(logging.INFO):
        found = fitted(config(), on_gpu(free), {})
    assert found.micro_batch == size
    told = "8 pictures at once would need about 5.0 GiB" in caplog.text
    assert told is bool(size)
    assert found.identity() == config().identity()


@pytest.mark.parametrize(("free", "cast"), [(6 * GIB, [GIB]), (6 * GIB - 1, []), (GIB, [])])
def test_weights_are_cast_once_where_all_pictures_leave_room(free, cast):
    gpu = on_gpu(free, casts=GIB)
    fitted(config(), gpu, {})
    assert gpu.cast == cast
    none_to_cast = on_gpu(free)
    fitted(config(), none_to_cast, {})
    assert none_to_cast.cast == []


def test_a_number_that_is_asked_for_stays():
    assert fitted(config(micro_batch=5), on_gpu(0), {}).micro_batch == 5


def test_what_is_learned_and_its_moments_count():
    learned = {"weights": torch.empty(GIB // 4, device="meta")}  # 1 GiB, and 2 of moments
    assert fitted(config(), on_gpu(5 * GIB), learned).micro_batch == 2


@cpu_only("of a GPU the host knows how much is free")
def test_on_a_cpu_the_whole_batch_goes_at_once(tiny_sd1):
    backbone = Backbone(tiny_sd1.model, tiny_sd1.clip)
    assert backbone.memory() is None
    assert fitted(config(), backbone, {}).micro_batch == 0


@pytest.mark.parametrize("size", [0, 1])
def test_a_training_that_cannot_fit_says_so_with_numbers(size):
    """A step needs 1.5 GiB with one picture, 0.5 GiB are left alone."""
    with pytest.raises(TrainingError) as caught:
        fitted(config(micro_batch=size), on_gpu(0, 4 * GIB - 1, 2 * GIB), {})
    text = str(caught.value)
    assert "1 picture at once at resolution 512 needs about 2.0 GiB" in text
    assert "learned 2.0 GiB" in text and "the GPU has 4.0 GiB" in text
    assert "Switch gradient_checkpointing on or lower resolution" in text
    assert fitted(config(), on_gpu(0, 4 * GIB, 2 * GIB), {}).micro_batch == 1


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({}, "Switch gradient_checkpointing on or lower resolution"),
        ({"gradient_checkpointing": True}, "Lower resolution"),
        ({"keep_activations": True}, "Switch keep_activations off or lower resolution"),
        ({"keep_activations": True, "gradient_checkpointing": True}, "Lower resolution"),
    ],
)
def test_what_saves_memory_is_not_advised_twice(changes, advice):
    assert config(micro_batch=1, **changes).saving_memory.startswith(f"{advice};")


def test_sdxl_may_keep_its_activations(tiny_sdxl, monkeypatch):
    counted = []
    step_bytes = Backbone.step_bytes

    def noted(self, rows, **options):
        counted.append(step_bytes(self, rows, **options))
        return counted[-1]

    monkeypatch.setattr(Backbone, "memory", lambda self: DeviceMemory(GIB, GIB))
    monkeypatch.setattr(Backbone, "step_bytes", noted)
    saving, keeping = (
        run_trainer("cross initialization", tiny_sdxl, steps=2, keep_activations=keep)
        for keep in (False, True)
    )
    assert keeping.losses["loss"] == pytest.approx(saving.losses["loss"], rel=1e-5)
    assert counted[0] < counted[2] / 2


def test_a_count_that_fails_ends_nothing():
    gpu = on_gpu(0)
    gpu.step_bytes = None
    assert fitted(config(), gpu, {}) == config()


def test_a_training_goes_on_with_what_fits(tiny_sd1, monkeypatch, caplog):
    step = counted(tiny_sd1, 1)
    monkeypatch.setattr(Backbone, "memory", lambda self: DeviceMemory(RESERVE + 3 * step, GIB))
    sizes = []
    unet = tiny_sd1.model.model.diffusion_model
    handle = unet.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    try:
        with caplog.at_level(logging.INFO):
            run_trainer("textual inversion", tiny_sd1, steps=1, batch_size=4)
    finally:
        handle.remove()
    assert sizes == [2, 2] and "they go through the model 2 at a time" in caplog.text


def counted(tiny, rows, **options):
    shape = StepShape(
        rows=rows, side=64, dtype=torch.float32, weights=torch.float32, **options
    )  # fmt: skip
    return needed(shapes_text(tiny.model.model.model_config.unet_config), shape)


@not_played("its tensors have no memory of their own")
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_count_is_that_of_a_real_step(tiny, checkpointing):
    """Tensors of the real UNet, made by the session that trains."""
    backbone = Backbone(tiny.model, tiny.clip, gradient_checkpointing=checkpointing)
    with backbone.session(LATENTS):
        with torch.no_grad():
            prompts = backbone.text.encode(backbone.text.prompts(["a dog"] * 2))
        rows = prompts.rows.clone().requires_grad_()
        conditioning = type(prompts)(rows, prompts.pooled)
        x0 = there(torch.zeros(LATENTS))
        with Allocated(tiny.model.model.parameters()) as allocated:
            out = backbone.denoiser.predict(x0, x0, torch.tensor([1, 2]), conditioning)
            torch.autograd.grad(out.square().mean(), rows)
    assert counted(tiny, 2, checkpointing=checkpointing) == pytest.approx(allocated.peak, rel=0.2)


def test_what_needs_more_counts_more(tiny_sd1):
    plain = counted(tiny_sd1, 2)
    assert counted(tiny_sd1, 2, checkpointing=True) < plain / 2
    assert plain < counted(tiny_sd1, 2, maps=True)
    assert counted(tiny_sd1, 4) == pytest.approx(2 * plain, rel=0.1)
    assert counted(tiny_sd1, 2, checkpointing=True) < counted(
        tiny_sd1, 2, checkpointing=True, whole=True
    )
