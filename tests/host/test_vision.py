"""Vision features against transformers with the same weights, and encoders of other kinds."""

import pytest
import torch
from personalize.concepts.errors import BaseModelError
from personalize.concepts.vision import VisionShape
from personalize.host.vision import layer_features, vision_shape
from personalize.tests.devices import here
from personalize.tests.elite_models import SHAPE, VISION, clip_vision

pytestmark = pytest.mark.host


def transformers_model(vision):
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    config = CLIPVisionConfig(**{k: v for k, v in VISION.items() if k != "model_type"})
    model = CLIPVisionModelWithProjection(config).eval()
    weights = {k: w.float() for k, w in here(dict(vision.model.state_dict())).items()}
    missing, unknown = model.load_state_dict(weights, strict=False)
    assert not unknown and all("position_ids" in key for key in missing)
    return model


@torch.inference_mode()
def test_features_equal_transformers():
    vision = clip_vision()
    model = transformers_model(vision)
    pictures = torch.rand(2, 70, 40, 3, generator=torch.Generator().manual_seed(0))
    features = here(layer_features(vision, pictures, (12, 2, 4, 6, 8)))
    # the whole picture, bicubic, to 8 bits, as a picture file would be
    square = torch.nn.functional.interpolate(
        pictures.movedim(-1, 1), (56, 56), mode="bicubic", antialias=True
    )
    square = (255 * square).clamp(0, 255).round() / 255
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (vision.image_mean, vision.image_std))
    states = model(pixel_values=(square - mean) / std, output_hidden_states=True).hidden_states
    assert len(states) == 13 and features.shape == (5, 2, 17, 32)
    for ours, layer in zip(features, (12, 2, 4, 6, 8), strict=True):
        assert ((ours - states[layer]).norm() / states[layer].norm()).item() < 1e-4
    normed = model.vision_model.post_layernorm(states[12])
    assert (features[0] - normed).norm() / normed.norm() > 0.01


@torch.inference_mode()
def test_the_users_encoder_is_not_changed():
    vision, pictures = clip_vision(), torch.rand(1, 56, 56, 3)
    before = vision.encode_image(pictures)
    state = {k: w.clone() for k, w in vision.model.state_dict().items()}
    layer_features(vision, pictures, [12, 1])
    after = vision.encode_image(pictures)
    assert vision.return_all_hidden_states is False
    for key in ("last_hidden_state", "image_embeds", "penultimate_hidden_states"):
        assert torch.equal(before[key], after[key])
    assert all(torch.equal(state[k], w) for k, w in vision.model.state_dict().items())


def test_shapes():
    assert vision_shape(clip_vision()) == SHAPE
    large = clip_vision(hidden_size=64, num_hidden_layers=3, image_size=70)
    assert vision_shape(large) == VisionShape(64, 3, 25)
    assert str(SHAPE) == "width 32, 12 layers and 16 patches"


def test_encoders_of_another_kind_are_refused():
    siglip = clip_vision(model_type="siglip_vision_model")
    with pytest.raises(BaseModelError, match=r"siglip_vision_model of width 32.*ViT-L/14"):
        vision_shape(siglip)
    with pytest.raises(BaseModelError, match="CLIP_VISION is a str"):
        vision_shape("text")
