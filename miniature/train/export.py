"""Write the trained parts as the files that the host loads: python -m miniature.train.export."""

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file

from ..cache import NAMES_FILE, folder, read_names, world_people
from ..files import CHECKPOINT, JUDGES, VISION, WEIGHTS, State, read
from ..host import tokens
from ..models import judges, unet, vae
from ..models.clip import Pair, Shape, VisionTower
from ..models.vocabulary import Vocabulary
from .encode import averaged, trained_pair, trained_vae
from .unet import latent_scale
from .vision import trained_tower

TEXT = "cond_stage_model.transformer.text_model."


def name_tokens(names: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids of all first names and of all last names."""
    coded = [tokens(name) for name in names]
    pairs = [c for c in coded if len(c) == 2]
    return tuple(torch.tensor(sorted({c[k] for c in pairs}), dtype=torch.int32) for k in (0, 1))  # type: ignore


def text_state(pair: Pair, words: Vocabulary) -> State:
    state = {}
    for key, value in pair.text.state_dict().items():
        if key == "token_embedding.weight":
            state[TEXT + "embeddings." + key] = value[: len(words.ids)]
        elif key == "position_embedding.weight":
            state[TEXT + "embeddings." + key] = value
        elif key == "text_projection.weight":
            state["cond_stage_model.transformer." + key] = value
        else:
            state[TEXT + key] = value
    first, last = name_tokens(sorted({*read_names(NAMES_FILE), *world_people()}))
    state["cond_stage_model.token_ids"] = torch.tensor(words.ids, dtype=torch.int32)
    state["cond_stage_model.first_names"], state["cond_stage_model.last_names"] = first, last
    state["cond_stage_model.logit_scale"] = pair.logit_scale.detach()
    return state


def vision_state(tower: VisionTower) -> State:
    state = {}
    for key, value in tower.state_dict().items():
        if key.startswith(("class_embedding", "patch_embedding", "position_embedding")):
            state["vision_model.embeddings." + key] = value
        elif key.startswith("visual_projection"):
            state[key] = value
        else:
            state["vision_model." + key] = value
    return state


def half(state: State) -> State:
    return {k: (v.half() if v.is_floating_point() else v).contiguous() for k, v in state.items()}


def write(file: Path, state: State, about: dict[str, str]) -> None:
    """Save it in half precision, unless the file holds just this: the bytes of two savings differ,
    and history keeps every copy."""
    new = half(state)
    if not holds(file, new, about):
        part = file.with_suffix(".part")
        save_file(new, part, about)
        part.replace(file)


def holds(file: Path, state: State, about: dict[str, str]) -> bool:
    """Whether a file has just these tensors and this metadata."""
    old, told = read(file) if file.exists() else ({}, {})
    same = told == about and old.keys() == state.keys()
    return same and all(torch.equal(v, state[k].to(v.dtype)) for k, v in old.items())


def write_checkpoint(root: Path, file: Path) -> None:
    """The text tower, the autoencoder and the UNet."""
    pair, words = trained_pair(root)
    state = text_state(pair, words)
    net = vae.widened(trained_vae(root).state_dict())
    state |= {f"first_stage_model.{k}": v for k, v in net.items()}
    for key, value in (("vae_scale", 1.0), ("vae_shift", 0.0)):
        state[f"first_stage_model.{key}"] = torch.tensor(value)
    diffusion = averaged(root, "unet", unet.build())
    state |= {f"model.diffusion_model.{k}": v for k, v in diffusion.state_dict().items()}
    about = {
        "licence": "CC0-1.0",
        "latent_scale": str(latent_scale(root)),
        "title": "Personalize miniature",
    }
    write(file, state, about)


def write_vision(root: Path, file: Path) -> None:
    """The vision tower: trained on its own, or as the training of the pair left it."""
    alone = (root / "vision" / "state.pt").exists()
    tower = trained_tower(root) if alone else trained_pair(root)[0].vision
    shape = json.dumps(Shape().vision_config())
    write(file, vision_state(tower), {"licence": "CC0-1.0", "config": shape})


def export(root: Path, target: Path) -> None:
    """Every part that is trained so far, from the cache folder into `target`."""
    target.mkdir(parents=True, exist_ok=True)
    if (root / "unet" / "state.pt").exists():
        write_checkpoint(root, target / CHECKPOINT)
    if any((root / part / "state.pt").exists() for part in ("vision", "clip")):
        write_vision(root, target / VISION)
    known = {"attribute": judges.attribute_judge, "instance": judges.instance_judge}
    built = {
        n: averaged(root, n, make())
        for n, make in known.items()
        if (root / n / "state.pt").exists()
    }
    tensors = {f"{n}.{k}": v for n, net in built.items() for k, v in net.state_dict().items()}
    if tensors:
        write(target / JUDGES, tensors, {"licence": "CC0-1.0"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", type=Path, default=WEIGHTS)
    parser.add_argument("--cache")
    args = parser.parse_args()
    export(folder(args.cache), args.target)
    for file in sorted(args.target.glob("*.safetensors")):
        print(file, f"{file.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
