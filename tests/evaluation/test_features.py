"""Extractors: from local folders alone, with errors that say which file is wanted where."""

import json
import socket

import numpy as np
import pytest
import torch
from personalize.concepts.errors import EvaluationError
from personalize.evaluation.features import load_clip, load_image_model
from personalize.tests.score_models import SIDE, write_clip, write_dino
from PIL import Image
from safetensors.torch import load_file, save_file


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "my-clip")


@pytest.fixture
def dino(tmp_path):
    return write_dino(tmp_path / "my-dino")


def noise(width=50, height=40, seed=0):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8))


def test_nothing_is_asked_of_any_network(clip, dino, monkeypatch):
    def refuse(*arguments, **options):
        raise AssertionError(f"a connection was tried: {arguments}")

    for name in ("create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    extractor = load_clip(clip)
    assert extractor.embed_texts(["a dog"]).shape == extractor.embed_pictures([noise()]).shape
    assert load_image_model(dino).embed_pictures([noise()]).shape == (1, 32)


def test_pictures_of_other_sizes_and_many_of_them(clip):
    extractor, counted = load_clip(clip), []
    several = [noise(20 + n, 60 - n, n) for n in range(19)]
    features = extractor.at(torch.device("cpu"), counted.append).embed_pictures(several)
    assert counted == [16, 3]
    alone = torch.cat([extractor.embed_pictures([one]) for one in several])
    torch.testing.assert_close(features, alone, rtol=0, atol=1e-5)


def test_the_folder_decides_the_normalisation(clip):
    before = load_clip(clip).embed_pictures([noise()])
    path = clip / "preprocessor_config.json"
    told = json.loads(path.read_text()) | {"image_mean": [0.1, 0.2, 0.3]}
    path.write_text(json.dumps(told))
    assert (load_clip(clip).embed_pictures([noise()]) - before).abs().max() > 0.01


def test_clips_of_any_patch_and_width_are_judges(tmp_path):
    """ViT-L/14 has 256 patches and 768 numbers, ViT-B/32 has 49 and 512."""
    for patch, width in ((8, 24), (16, 16)):
        extractor = load_clip(write_clip(tmp_path / f"clip-{patch}", patch=patch, width=width))
        assert extractor.embed_pictures([noise()]).shape == (1, width)
        assert extractor.embed_texts(["a dog"]).shape == (1, width)


def test_fp16_weights_are_computed_in_fp32(clip):
    weights = load_file(clip / "model.safetensors")
    halves = {key: w.half() if w.is_floating_point() else w for key, w in weights.items()}
    save_file(halves, clip / "model.safetensors", {"format": "pt"})
    config = json.loads((clip / "config.json").read_text())
    (clip / "config.json").write_text(json.dumps(config | {"dtype": "float16"}))
    extractor = load_clip(clip)
    assert {p.dtype for p in extractor.module.parameters()} == {torch.float32}


def test_weights_in_the_older_format(clip):
    before = load_clip(clip).embed_texts(["a dog"])
    torch.save(load_file(clip / "model.safetensors"), clip / "pytorch_model.bin")
    (clip / "model.safetensors").unlink()
    torch.testing.assert_close(load_clip(clip).embed_texts(["a dog"]), before)


def test_a_file_that_would_run_code_is_refused(clip, tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"x": Evil()}, clip / "pytorch_model.bin")
    (clip / "model.safetensors").unlink()
    with pytest.raises(EvaluationError, match="cannot be loaded"):
        load_clip(clip)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "gone, told",
    [
        ("config.json", "it lacks config.json"),
        ("model.safetensors", "it lacks model.safetensors or model.safetensors.index.json or"),
        ("preprocessor_config.json", "it lacks preprocessor_config.json"),
        ("merges.txt", "it lacks tokenizer.json or vocab.json with merges.txt"),
    ],
)
def test_a_missing_file_is_named_with_its_place(clip, gone, told):
    (clip / gone).unlink()
    with pytest.raises(EvaluationError) as caught:
        load_clip(clip)
    assert str(clip) in str(caught.value) and told in str(caught.value)
    assert "Expected there are the files of a model" in str(caught.value)


def test_an_empty_folder_lacks_everything(tmp_path):
    with pytest.raises(EvaluationError, match=r"lacks config.json; model.safetensors .*; prep"):
        load_image_model(tmp_path)


def test_dino_is_no_clip_but_clip_can_be_an_image_model(clip, dino):
    for name in ("vocab.json", "merges.txt"):
        (dino / name).write_text((clip / name).read_text())
    with pytest.raises(EvaluationError, match="of the type 'vit', expected 'clip'"):
        load_clip(dino)
    features = load_image_model(clip).embed_pictures([noise()])
    torch.testing.assert_close(features, load_clip(clip).embed_pictures([noise()]))


def test_a_network_without_a_class_token(tmp_path):
    import transformers

    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1])
    transformers.ResNetModel(config).save_pretrained(tmp_path)
    told = {"image_processor_type": "ViTImageProcessor", "size": {"height": SIDE, "width": SIDE}}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(told))
    assert load_image_model(tmp_path).embed_pictures([noise()]).shape == (1, 12)


def test_weights_of_another_model_are_refused(clip):
    weights = load_file(clip / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, clip / "model.safetensors", {"format": "pt"})
    with pytest.raises(EvaluationError, match="1 are missing, such as visual_projection.weight"):
        load_clip(clip)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "preprocessor_config.json"])
def test_a_damaged_file_is_told(clip, file):
    (clip / file).write_bytes(b"{ not what it should be")
    with pytest.raises(EvaluationError, match="my-clip"):
        load_clip(clip)
