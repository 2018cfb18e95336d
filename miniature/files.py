"""The committed files read back without the host's loaders: for measuring and for demos."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from .cache import ROOT
from .comfy_pack.vocabulary import HOST_ROWS, full_table
from .models import judges, unet, vae
from .models.clip import Pair, Shape

WEIGHTS = ROOT / "weights"
CHECKPOINT, VISION = "miniature.safetensors", "miniature_vision.safetensors"
JUDGES, ELITE = "judges.safetensors", "miniature_elite.safetensors"
TEXT_PREFIX = "cond_stage_model.transformer."
State = dict[str, torch.Tensor]


class BadWeights(ValueError):
    """A weight file is missing, damaged or of another shape."""


def read(file: Path) -> tuple[State, dict[str, str]]:
    """Tensors as fp32 (integers as they are) and metadata."""
    if not file.exists():
        raise BadWeights(f"There is no {file}. `python -m miniature.train.export` writes it.")
    try:
        with safe_open(file, "pt") as f:
            state = {k: f.get_tensor(k) for k in f.keys()}  # noqa: SIM118
            about = f.metadata() or {}
    except SafetensorError as error:
        raise BadWeights(f"{file} is damaged: {error}. Restore it from the repository.") from error
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}, about


def under(state: State, prefix: str) -> State:
    return {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}


def fill(module: nn.Module, state: State, file: Path) -> nn.Module:
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        raise BadWeights(f"{file} does not fit this version of the miniature: {error}") from error
    return module.eval().requires_grad_(False)


def text_state(state: State) -> State:
    """Keys of our TextTower, with all 49408 word rows."""
    text = under(state, TEXT_PREFIX)
    result = {k.removeprefix("text_model.").removeprefix("embeddings."): v for k, v in text.items()}
    words = (
        state[f"cond_stage_model.{k}"].long() for k in ("token_ids", "first_names", "last_names")
    )
    ids, first, last = words
    result["token_embedding.weight"] = full_table(
        ids, result["token_embedding.weight"], first, last
    )
    return result


def load_pair(folder: Path = WEIGHTS) -> Pair:
    """Both towers; word rows are the host's token numbers."""
    state, _ = read(folder / CHECKPOINT)
    seen, _ = read(folder / VISION)
    pair = Pair(Shape(), HOST_ROWS)
    fill(pair.text, text_state(state), folder / CHECKPOINT)
    names = {
        k.removeprefix("vision_model.").removeprefix("embeddings."): v for k, v in seen.items()
    }
    fill(pair.vision, names, folder / VISION)
    pair.logit_scale.data = state["cond_stage_model.logit_scale"]
    return pair.eval().requires_grad_(False)


def load_autoencoder(folder: Path = WEIGHTS) -> vae.Autoencoder:
    state = under(read(folder / CHECKPOINT)[0], "first_stage_model.")
    kept = {k: v for k, v in state.items() if k.startswith("taesd_")}
    wide = (vae.HOST_WIDTH,) * 4
    net = fill(vae.Autoencoder((wide, wide)), kept, folder / CHECKPOINT)
    assert isinstance(net, vae.Autoencoder)
    return net


def load_unet(folder: Path = WEIGHTS) -> tuple[nn.Module, float]:
    """The UNet, and what latents are multiplied with for it."""
    state, about = read(folder / CHECKPOINT)
    net = fill(unet.build(), under(state, "model.diffusion_model."), folder / CHECKPOINT)
    return net, float(about["latent_scale"])


def load_judge(name: str, folder: Path = WEIGHTS) -> judges.Judge:
    """`attribute` or `instance`."""
    state = under(read(folder / JUDGES)[0], f"{name}.")
    made = {"attribute": judges.attribute_judge, "instance": judges.instance_judge}[name]()
    for key, value in made.state_dict().items():
        if not value.is_floating_point() and key in state:
            state[key] = state[key].to(value.dtype)
    fill(made, state, folder / JUDGES)
    return made
