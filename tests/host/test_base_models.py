"""Which base a MODEL and a CLIP are, and what a base says of them, against the host's own."""

import pytest
import torch
from personalize.concepts.bases import BASES
from personalize.concepts.errors import BaseModelError
from personalize.host.base_models import base_of_model, check_pair, towers_of
from personalize.host.bases import HOST_BASES

pytestmark = pytest.mark.host


def test_every_base_is_known_to_the_host_and_to_concepts():
    assert [known.base for known in HOST_BASES] == list(BASES.values())


def test_a_models_base_and_text_encoders(tiny):
    kind = tiny.kind[:3]
    assert base_of_model(tiny.model).base is BASES[kind]
    (tower,) = towers_of(tiny.clip).towers
    assert tower.name == tiny.clip.cond_stage_model.clip
    assert tower.encoder is getattr(tiny.clip.cond_stage_model, tower.name)
    assert list(tiny.clip.tokenize("a dog")) == [tower.key]
    assert check_pair(tiny.model, tiny.clip).width == tower.width


def test_the_published_widths_are_the_hosts():
    from comfy import sd1_clip
    from comfy.text_encoders import sd2_clip

    models = {"sd1": sd1_clip.SD1ClipModel, "sd2": sd2_clip.SD2ClipModel}
    for known in HOST_BASES:
        model = models[known.base.key](device="meta", dtype=torch.float16)
        for name, width in known.base.encoders:
            embedding = getattr(model, name).transformer.get_input_embeddings()
            assert embedding.weight.shape == (49408, width)


def test_a_clip_and_a_model_of_two_bases_do_not_fit(tiny_sd1, tiny_sd2):
    with pytest.raises(BaseModelError, match=r"MODEL is .*1\.x .*64.*CLIP is .*2\.x .*96"):
        check_pair(tiny_sd1.model, tiny_sd2.clip)


def test_a_missing_clip_and_other_models_are_refused(tiny_sd1):
    from comfy import supported_models

    with pytest.raises(BaseModelError, match="There is no CLIP"):
        towers_of(None)
    other = tiny_sd1.model.clone()
    kept, other.model = other.model, type("Other", (), {"model_config": supported_models.SDXL})()
    other.model.model_config = object.__new__(supported_models.SDXL)
    with pytest.raises(BaseModelError, match=r"This MODEL is a SDXL. Expected a Stable Diffusion"):
        base_of_model(other)
    other.model = kept


@pytest.mark.parametrize("changes", [{"in_channels": 9}, {"adm_in_channels": 1024}])
def test_variants_cannot_be_trained_on(tiny_sd2, changes, monkeypatch):
    config = tiny_sd2.model.model.model_config
    monkeypatch.setattr(config, "unet_config", config.unet_config | changes)
    with pytest.raises(BaseModelError, match="inpainting, depth, upscaling or unCLIP variant"):
        base_of_model(tiny_sd2.model).check_trainable(tiny_sd2.model)


def test_the_projections_are_all_keys_and_values_of_the_cross_attention(tiny):
    unet = tiny.model.model.diffusion_model
    found = base_of_model(tiny.model).projections(unet)
    ends = (".attn2.to_k.weight", ".attn2.to_v.weight")
    assert [f"{path}.weight" for path in found] == [
        k for k in unet.state_dict() if k.endswith(ends)
    ]
    width = towers_of(tiny.clip).width
    assert all(layer.weight.shape[1] == width for layer in found.values())


def test_the_resolution_is_what_the_model_was_made_for(tiny):
    """2.x has models of two sizes, and what they predict tells them apart."""
    assert base_of_model(tiny.model).resolution(tiny.model) == (768 if tiny.kind == "sd2v" else 512)
