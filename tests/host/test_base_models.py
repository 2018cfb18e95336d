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


def test_a_models_base_and_text_encoders(every_tiny):
    base = BASES[every_tiny.kind.removesuffix("v")]
    assert base_of_model(every_tiny.model).base is base
    towers = towers_of(every_tiny.clip).towers
    assert tuple(tower.name for tower in towers) == base.encoder_names
    for tower in towers:
        assert tower.encoder is getattr(every_tiny.clip.cond_stage_model, tower.name)
    assert set(every_tiny.clip.tokenize("a dog")) == {tower.key for tower in towers}
    widths = [tower.width for tower in towers]
    assert check_pair(every_tiny.model, every_tiny.clip).width == sum(widths)


def test_the_published_widths_are_the_hosts():
    from comfy import sd1_clip, sdxl_clip, supported_models
    from comfy.text_encoders import sd2_clip

    models = {
        "sd1": sd1_clip.SD1ClipModel,
        "sd2": sd2_clip.SD2ClipModel,
        "sdxl": sdxl_clip.SDXLClipModel,
    }
    for known in HOST_BASES:
        model = models[known.base.key](device="meta", dtype=torch.float16)
        for name, width in known.base.encoders:
            embedding = getattr(model, name).transformer.get_input_embeddings()
            assert embedding.weight.shape == (49408, width)
        published = [getattr(supported_models, kind.__name__) for kind in known.configs]
        assert {k.unet_config["context_dim"] for k in published} == {known.base.context_width}


def test_a_clip_and_a_model_of_two_bases_do_not_fit(tiny_sd1, tiny_sd2):
    with pytest.raises(BaseModelError, match=r"MODEL is .*1\.x .*64.*CLIP is .*2\.x .*96"):
        check_pair(tiny_sd1.model, tiny_sd2.clip)


def test_a_missing_clip_and_other_models_are_refused(tiny_sd1):
    from comfy import supported_models

    with pytest.raises(BaseModelError, match="There is no CLIP"):
        towers_of(None)
    other = tiny_sd1.model.clone()
    kept, other.model = other.model, type("Other", (), {})()
    for kind, message in {
        supported_models.Flux: r"This MODEL is a Flux. Expected a .* 1\.x, .* 2\.x or .* XL model",
        supported_models.SDXLRefiner: "This MODEL is the refiner of .* XL.*on the base model",
    }.items():
        other.model.model_config = object.__new__(kind)
        with pytest.raises(BaseModelError, match=message):
            base_of_model(other)
    other.model = kept


def test_children_of_sdxl_are_sdxl_and_edm_variants_are_refused_by_name(tiny_sdxl, monkeypatch):
    from comfy import supported_models
    from comfy.model_base import ModelType

    known = base_of_model(tiny_sdxl.model)
    for child in (supported_models.SSD1B, supported_models.Segmind_Vega):
        assert known.owns_model(object.__new__(child))
    for kind, name in {"EDM": "Playground", "V_PREDICTION_EDM": "CosXL"}.items():
        monkeypatch.setattr(tiny_sdxl.model.model, "model_type", ModelType[kind])
        with pytest.raises(BaseModelError, match=f"{name}.*EDM variant.*such as Pony"):
            base_of_model(tiny_sdxl.model)


def test_clips_of_other_families_are_no_sdxl(tiny_sdxl):
    """SD3 has both encoders of SDXL, and the refiner its tokenizer."""
    from comfy import sdxl_clip
    from comfy.text_encoders import sd3_clip

    clip = tiny_sdxl.clip.clone()
    model, tokenizer = clip.cond_stage_model, clip.tokenizer
    clip.tokenizer = sd3_clip.SD3Tokenizer()
    with pytest.raises(BaseModelError, match="with a SD3Tokenizer"):
        towers_of(clip)
    clip.tokenizer = tokenizer
    clip.cond_stage_model = sdxl_clip.SDXLRefinerClipModel("meta", torch.float16)
    with pytest.raises(BaseModelError, match="is a SDXLRefinerClipModel"):
        towers_of(clip)
    clip.cond_stage_model = model
    assert towers_of(clip).base is BASES["sdxl"]


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("sd2", {"in_channels": 9}),
        ("sd2", {"adm_in_channels": 1024}),
        ("sdxl", {"in_channels": 9}),
    ],
)
def test_variants_cannot_be_trained_on(kind, changes, monkeypatch, request):
    model = request.getfixturevalue(f"tiny_{kind}").model
    config = model.model.model_config
    base_of_model(model).check_trainable(model)
    monkeypatch.setattr(config, "unet_config", config.unet_config | changes)
    with pytest.raises(BaseModelError, match="inpainting, depth, upscaling or unCLIP variant"):
        base_of_model(model).check_trainable(model)


def test_the_projections_are_all_keys_and_values_of_the_cross_attention(every_tiny):
    unet = every_tiny.model.model.diffusion_model
    found = base_of_model(every_tiny.model).projections(unet)
    ends = (".attn2.to_k.weight", ".attn2.to_v.weight")
    assert [f"{path}.weight" for path in found] == [
        k for k in unet.state_dict() if k.endswith(ends)
    ]
    width = towers_of(every_tiny.clip).width
    assert all(layer.weight.shape[1] == width for layer in found.values())


def test_the_resolution_is_what_the_model_was_made_for(every_tiny):
    """2.x has models of two sizes, and what they predict tells them apart."""
    sides = {"sd2v": 768, "sdxl": 1024, "sdxlv": 1024}
    assert base_of_model(every_tiny.model).resolution(every_tiny.model) == sides.get(
        every_tiny.kind, 512
    )
