"""The committed files: small enough, loaded by the host's own loaders, of some use."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from personalize.miniature.cache import ROOT
from personalize.miniature.files import CHECKPOINT, JUDGES, VISION, WEIGHTS
from safetensors import safe_open

MISSING = not (WEIGHTS / CHECKPOINT).exists()
pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(MISSING, reason="no weights: see miniature/MODEL_CARD.md"),
]


@pytest.fixture(scope="module")
def demo_pack():
    """The demo pack under a name of its own, as the host loads a folder of custom_nodes."""
    folder = ROOT / "comfy_pack"
    spec = importlib.util.spec_from_file_location(
        "miniature_comfy_pack", folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["miniature_comfy_pack"] = module
    spec.loader.exec_module(module)
    importlib.import_module("miniature_comfy_pack.model").register()
    return module


@pytest.fixture(scope="module")
def loaded(demo_pack, host_base: Path):
    """MODEL, CLIP and VAE as the stock node gives them."""
    target = host_base / "models" / "checkpoints"
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(WEIGHTS / CHECKPOINT, target)
    import nodes

    return nodes.CheckpointLoaderSimple().load_checkpoint(CHECKPOINT)


def encode(clip, text: str):
    return clip.encode_from_tokens_scheduled(clip.tokenize(text))


def test_files_are_small_and_free() -> None:
    files = [WEIGHTS / CHECKPOINT, WEIGHTS / VISION]
    assert sum(f.stat().st_size for f in files) <= 40e6
    for file in files:
        with safe_open(file, "pt") as f:
            assert f.metadata()["licence"] == "CC0-1.0"
    assert "CC0" in (WEIGHTS / "LICENSE").read_text()


def test_registering_twice_registers_once(demo_pack) -> None:
    import comfy.supported_models

    importlib.import_module("miniature_comfy_pack.model").register()
    names = [m.__name__ for m in comfy.supported_models.models]
    assert names.count("Miniature") == 1


def test_stock_loader_gives_the_miniature(loaded) -> None:
    model, clip, vae = loaded
    assert type(model.model.model_config).__name__ == "Miniature"
    assert encode(clip, "a photo of a red mug")[0][0].shape == (1, 77, 128)
    picture = torch.rand(1, 128, 128, 3)
    latent = vae.encode(picture)
    assert latent.shape == (1, 4, 16, 16)
    assert vae.decode(latent).shape == picture.shape


def test_autoencoder_rebuilds_rendered_pictures(loaded) -> None:
    from personalize.miniature.train.judges import fresh_scenes

    pictures = fresh_scenes(6)[0].movedim(1, -1).contiguous()
    vae = loaded[2]
    rebuilt = vae.decode(vae.encode(pictures)).detach()
    error = (rebuilt - pictures).square().mean((1, 2, 3))
    assert float((-10 * torch.log10(error)).mean()) > 25


@pytest.mark.parametrize(
    "text", ["", "qwxyz zzyzx", "a photo of a zorgle mug", "mug " * 90, "ünïcödé 猫"]
)
def test_any_words_encode(loaded, text: str) -> None:
    conditioning = encode(loaded[1], text)[0][0]
    assert conditioning.isfinite().all()
    assert conditioning.abs().max() < 100


@pytest.mark.parametrize("size", [(64, 64), (128, 192), (200, 136)])
def test_other_sizes_give_pictures(loaded, size: tuple[int, int]) -> None:
    import comfy.sample

    model, clip, vae = loaded
    h, w = size
    latent = torch.zeros(1, 4, h // 8, w // 8)
    out = comfy.sample.sample(
        model,
        torch.randn_like(latent),
        2,
        4.0,
        "euler",
        "normal",
        encode(clip, "a photo of a red mug"),
        encode(clip, ""),
        latent,
        seed=1,
    )
    assert vae.decode(out).shape == (1, h // 8 * 8, w // 8 * 8, 3)


def test_vision_file_loads_and_matches_text(loaded, demo_pack) -> None:
    """Of some classes, the mean picture of each is the nearest one to its caption."""
    load_vision = importlib.import_module("miniature_comfy_pack.nodes").load_vision
    from personalize.miniature.world.render import render
    from personalize.miniature.world.scene import random_individual

    vision = load_vision(str(WEIGHTS / VISION))
    rng = np.random.default_rng(1)
    kinds = ("mug", "duck", "car", "house")
    seen, told = [], []
    for kind in kinds:
        shown = np.stack([render(random_individual(rng, kind))[0] for _ in range(8)])
        output = vision.encode_image(torch.from_numpy(shown).float() / 255)
        assert output["last_hidden_state"].shape == (8, 65, 128)
        seen.append(torch.nn.functional.normalize(output["image_embeds"], dim=-1).mean(0))
        told.append(encode(loaded[1], f"a photo of a {kind}")[0][1]["pooled_output"][0])
    projection = loaded[1].cond_stage_model.clip_l.transformer.text_projection
    told = torch.nn.functional.normalize(projection(torch.stack(told)), dim=-1)
    assert (torch.stack(seen) @ told.T).argmax(0).tolist() == list(range(len(kinds)))


def test_damaged_vision_file_is_refused_with_a_sentence(demo_pack, tmp_path: Path) -> None:
    load_vision = importlib.import_module("miniature_comfy_pack.nodes").load_vision
    from safetensors.torch import load_file, save_file

    state = load_file(WEIGHTS / VISION)
    save_file(state, tmp_path / "bare.safetensors")
    with pytest.raises(ValueError, match="no vision file of the miniature"):
        load_vision(str(tmp_path / "bare.safetensors"))
    with safe_open(WEIGHTS / VISION, "pt") as f:
        about = f.metadata()
    state.pop("vision_model.post_layernorm.weight")
    save_file(state, tmp_path / "damaged.safetensors", about)
    with pytest.raises(ValueError, match="is damaged: it lacks 1 weights"):
        load_vision(str(tmp_path / "damaged.safetensors"))


def test_judges_are_there() -> None:
    with safe_open(WEIGHTS / JUDGES, "pt") as f:
        assert {k.split(".")[0] for k in f.keys()} == {"attribute", "instance"}  # noqa: SIM118
