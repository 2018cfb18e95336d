"""A session: what it opens, what it tells the host, and that the user's models come back."""

from dataclasses import dataclass

import pytest
import torch
from personalize.host import backbone as module
from personalize.host.backbone import Backbone, Precision
from personalize.tests.devices import here

pytestmark = pytest.mark.host

LATENTS = (1, 4, 8, 8)


@pytest.fixture
def backbone(tiny_sd1):
    return Backbone(tiny_sd1.model, tiny_sd1.clip)


def layer_of(backbone, path):
    return backbone._model.model.diffusion_model.get_submodule(path)


def test_a_precision_is_a_type_and_auto_is_none():
    named = {precision.value: precision.dtype for precision in Precision}
    assert named == {
        "auto": None, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16,
    }  # fmt: skip


def test_opened_weights_are_copies_that_end_with_the_session(backbone):
    with backbone.session(LATENTS):
        opened = backbone.open_projections()
        path, copy = next(iter(opened.items()))
        assert opened.keys() == backbone.projection_shapes().keys()
        assert layer_of(backbone, path).weight is copy and copy.requires_grad
        with torch.no_grad():
            copy.add_(1)
        with backbone.paused():
            own = layer_of(backbone, path).weight
            assert torch.allclose(copy, own.float() + 1)
        assert layer_of(backbone, path).weight is copy
    assert layer_of(backbone, path).weight is own
    with backbone.session(LATENTS):  # another training of the same models
        assert torch.equal(layer_of(backbone, path).weight, own)


@dataclass
class Host:
    """How often the session has asked the host for what."""

    memory: list
    unloaded: list


@pytest.fixture
def host(monkeypatch):
    asked = Host([], [])
    load = module.load_whole

    def noted(patchers, memory):
        asked.memory.append(memory)
        load(patchers, memory)

    monkeypatch.setattr(module, "load_whole", noted)
    monkeypatch.setattr(module, "unload_others", lambda patchers: asked.unloaded.append(patchers))
    return asked


def test_memory_is_asked_for_a_backward_pass_and_others_may_stay(backbone, host):
    forward = backbone._model.memory_required(list(LATENTS))
    with backbone.session(LATENTS):
        assert host.memory == [3 * forward] and len(host.unloaded) == 1
        assert backbone.latent_side == 8
        with backbone.paused(others_stay=True):
            pass
        assert len(host.unloaded) == 1
        with backbone.paused():
            pass
        assert len(host.unloaded) == 2 and host.memory == [3 * forward] * 3


def test_who_wants_to_know_is_told_before_weights_move(backbone, monkeypatch):
    told, places = [], [[(1,)]]
    monkeypatch.setattr(Backbone, "_places", lambda self: list(places[-1]))
    with backbone.session(LATENTS):
        backbone.before_moving(lambda: told.append("moves"))
        with backbone.paused(others_stay=True):
            assert told == []
        assert told == []  # everything is where it was
        with backbone.paused(others_stay=True):
            places.append([(2,)])
        assert told == ["moves"]
        with backbone.paused():
            assert told == ["moves"] * 2
    assert told == ["moves"] * 3  # in the end
    with backbone.session(LATENTS):
        pass
    assert told == ["moves"] * 3  # the next session is somebody else's


def test_a_fingerprint_reads_both_ends_of_a_weight(backbone):
    before = backbone.fingerprint()
    weight = layer_of(backbone, "input_blocks.1.1.transformer_blocks.0.attn2.to_k").weight
    with torch.inference_mode():
        for place in (0, -1):
            value = weight.view(-1)[place].clone()
            weight.view(-1)[place] += 1
            assert backbone.fingerprint() != before
            weight.view(-1)[place] = value
    assert backbone.fingerprint() == before


def test_maps_are_read_where_they_have_the_wanted_side(backbone):
    with backbone.session(LATENTS):
        reader = backbone.attention_reader(4)
        with reader.reading(), torch.no_grad():
            empty = backbone.text.encode(backbone.text.prompts([""]))
            latent = torch.zeros(LATENTS, device=backbone.device)
            backbone.denoiser.predict(latent, latent, torch.tensor([1]), empty)
            maps = reader.word_maps(torch.tensor([[0, 1]], device=backbone.device))
    assert set(reader.sides().values()) == {4}
    assert here(maps).shape == (1, 2, 4, 4)
