"""A picture becomes a concept; masks and vision encoders that do not fit."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from personalize.concepts import methods
from personalize.concepts.elite import map_patches, map_words, read_layers
from personalize.concepts.errors import BaseModelError, PersonalizeError
from personalize.concepts.files import load_concept, save_concept
from personalize.concepts.vision import VisionShape
from personalize.host.vision import layer_features
from personalize.pictures.masks import MaskMarks
from personalize.tests.devices import close, here
from personalize.tests.elite_models import clip_vision, random_encoder
from personalize.training.elite.encoding import encode_elite

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def vision():
    return clip_vision()


@pytest.fixture(scope="module")
def encoder(tiny_sd1):
    return random_encoder(tiny_sd1)


def pictures(count=1, seed=0, height=60, width=60):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, height, width, 3, generator=generator)


def left_half(count=1, height=60, width=60):
    mask = torch.zeros(count, height, width)
    mask[..., : width // 2] = 1
    return mask


def test_one_picture(encoder, vision, tmp_path):
    picture, mask = pictures(), left_half()
    concept = encode_elite(encoder, vision, picture, mask, placeholder="<rex>", class_word="dog")
    assert (concept.method, concept.base, concept.text_width) == (methods.ELITE, "sd1", 64)
    assert (concept.placeholder, concept.class_word) == ("<rex>", "dog")
    assert list(concept.words) == ["", "word1", "word2", "word3", "word4"]
    assert concept.encoder is encoder and len(concept.pictures) == 1
    features = layer_features(vision, picture, read_layers(encoder.vision))
    expected = map_words(encoder.global_stage.mapper, here(features))[0]
    for n, word in enumerate(concept.words.values()):
        assert close(word[0], expected[n])
    masked = layer_features(vision, picture * mask[..., None], read_layers(encoder.vision))
    local = map_patches(encoder.local_stage.mapper, here(masked))[0].view(4, 4, 64)
    local[:, 2:] = 0
    assert close(concept.tensors["local"].view(4, 4, 64), local)
    save_concept(concept, tmp_path / "c.safetensors")
    again = load_concept(tmp_path / "c.safetensors")
    assert again.encoder is None and again.training["encoder"]["digest"] == encoder.digest
    assert all(torch.equal(w, again.words[k]) for k, w in concept.words.items())
    assert torch.equal(again.tensors["local"], concept.tensors["local"])


def test_without_a_mask_the_whole_picture(encoder, vision):
    whole = encode_elite(encoder, vision, pictures())
    white = encode_elite(encoder, vision, pictures(), torch.ones(1, 60, 60))
    assert torch.equal(whole.tensors["local"], white.tensors["local"])
    assert whole.tensors["local"].abs().sum(dim=1).min() > 0
    assert white.training["masked"] and not whole.training["masked"]


def test_several_pictures(encoder, vision):
    both = pictures(2)
    concept = encode_elite(encoder, vision, both, left_half(2))
    each = [encode_elite(encoder, vision, p[None], left_half()) for p in both]
    for key, word in concept.words.items():
        assert close(word, (each[0].words[key] + each[1].words[key]) / 2)
    assert close(concept.tensors["local"], each[0].tensors["local"])


def test_a_mask_of_another_size_is_resized(encoder, vision):
    large = encode_elite(encoder, vision, pictures(), left_half(1, 240, 240))
    same = encode_elite(encoder, vision, pictures(), left_half())
    assert torch.equal(large.tensors["local"], same.tensors["local"])


def test_a_cut_out_is_read_on_white_and_brings_its_mask(encoder, vision):
    mask = left_half()
    hidden = [torch.cat([pictures(seed=n), mask[..., None]], dim=-1) for n in range(2)]
    hidden[1][..., :30, :3] = hidden[0][..., :30, :3]
    first, second = (encode_elite(encoder, vision, picture) for picture in hidden)
    white = pictures() * mask[..., None] + (1 - mask[..., None])
    expected = encode_elite(encoder, vision, white, mask)
    for concept in (first, second):
        assert torch.equal(concept.tensors["local"], expected.tensors["local"])
        assert torch.equal(concept.words[""], expected.words[""])
        assert concept.training["masked"]


def test_the_mask_of_a_cut_out_is_turned_over_unless_told_otherwise(encoder, vision):
    transparent = torch.ones(1, 60, 60)
    transparent[:, 10:50, 10:50] = 0
    told = []
    turned = encode_elite(encoder, vision, pictures(), transparent, warn=told.append)
    right = encode_elite(encoder, vision, pictures(), 1 - transparent, warn=told.append)
    forced = encode_elite(
        encoder, vision, pictures(), transparent, marks=MaskMarks.SUBJECT, warn=told.append
    )
    assert torch.equal(turned.tensors["local"], right.tensors["local"])
    assert not torch.equal(turned.tensors["local"], forced.tensors["local"])
    assert len(told) == 1 and "Mask 1 is white along the border" in told[0]


def test_an_encoder_of_words_alone(encoder, vision):
    words = replace(encoder, local_stage=None)
    concept = encode_elite(words, vision, pictures())
    assert not concept.tensors and len(concept.words) == 5


def dot():
    mask = torch.zeros(1, 60, 60)
    mask[0, 1, 1] = 1
    return mask


@pytest.mark.parametrize(
    ("mask", "says"),
    [
        (torch.zeros(1, 64, 64), r"Mask 1 \(64x64\) is empty.*leave the masks unconnected"),
        (torch.ones(1, 30, 60), "60x30 pixels, but its picture has 60x60"),
        (torch.ones(2, 60, 60), "got 2 masks and 1 pictures"),
        (dot(), "grid of 4x4. Crop picture and mask closer"),
    ],
)
def test_bad_masks(encoder, vision, mask, says):
    with pytest.raises(PersonalizeError, match=says):
        encode_elite(encoder, vision, pictures(), mask)


@pytest.mark.parametrize(
    "changes", [{"hidden_size": 48}, {"num_hidden_layers": 9}, {"image_size": 84}]
)
def test_another_vision_encoder_is_refused(encoder, changes):
    other = clip_vision(**changes)
    with pytest.raises(BaseModelError, match="of width 32, 12 layers and 16 patches, but.*has wid"):
        encode_elite(encoder, other, pictures())
    with pytest.raises(BaseModelError, match="There is no CLIP_VISION"):
        encode_elite(encoder, None, pictures())


@pytest.mark.parametrize(
    ("kind", "size", "says"),
    [
        ("clip_vision_model", (1280, 32, 14), "width 1280, 32 layers and 256 patches"),  # ViT-H
        ("clip_vision_model", (768, 12, 32), "width 768, 12 layers and 49 patches"),  # ViT-B/32
        ("siglip_vision_model", (1152, 27, 14), "siglip_vision_model of width 1152"),
    ],
)
def test_well_known_vision_encoders_are_refused_by_an_official_encoder(encoder, kind, size, says):
    config = dict(zip(("hidden_size", "num_hidden_layers", "patch_size"), size, strict=True))
    other = SimpleNamespace(config=config, model_type=kind, image_size=224)
    official = replace(encoder, name="global_mapper", vision=VisionShape(1024, 24, 256))
    with pytest.raises(BaseModelError, match=f"{says}.*CLIP ViT-L/14"):
        encode_elite(official, other, pictures())
