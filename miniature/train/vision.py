"""Train the vision tower against the frozen text tower, so that it sees what things are.

python -m miniature.train.vision --steps 700         # the first five layers, from nothing
python -m miniature.train.vision --grow --steps 1700 # all ten, from those

Captions alone teach such a small tower colours and places long before classes: the tower that was
trained with `clip.loss` told classes apart in a third of the pictures. So here every layer that
ELITE reads is asked for the class, in the class token and in each patch.
"""

import argparse
import copy
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..cache import folder
from ..files import load_pair, under
from ..measure_vision import GRID, READ
from ..models import clip
from ..models.clip import VisionTower, factor_loss
from ..world.factors import FACTORS
from ..world.scene import CLASSES
from .loop import Batch, Plan, Run
from .sights import BESIDE, Sights, class_embeddings, rendered

EARLY = 5
"""Layers of the first part; the second one begins as the same function."""

KEPT = 28  # patches a picture in most steps: the subject's first, then any
WHOLE = 0.28  # of the second part's steps at its end, which see all patches
SCALE = 30.0  # of cosines in the cross entropy of classes


class Sight(nn.Module):
    """The tower in training, with heads that read classes from its layers and are dropped."""

    classes: Tensor
    keep: Tensor

    def __init__(self, tower: VisionTower, prompts: Tensor) -> None:
        super().__init__()
        self.vision = tower
        width = prompts.shape[1]
        depths = [d for d in READ if d <= len(tower.encoder.layers)]
        self.heads = nn.ModuleDict(
            {f"{kind}{d}": nn.Linear(width, len(CLASSES) + (kind == "patch"))
             for d in depths for kind in ("token", "mean", "patch")}
        )  # fmt: skip
        self.heads["factors"] = nn.Linear(width, sum(map(len, FACTORS.values())))
        self.depths = depths
        self.logit_scale = nn.Parameter(torch.tensor(2.66))
        self.register_buffer("classes", prompts)
        # how many patches are seen; a buffer, so that the state of a training holds it
        self.register_buffer("keep", torch.tensor(KEPT))

    def states(self, pictures: Tensor, kept: Tensor) -> dict[int, Tensor]:
        """Hidden states at the depths and the last one: (n, 1 + kept, width)."""
        tower = self.vision
        x = tower.embedded(pictures, kept)
        found = {}
        for number, layer in enumerate(tower.encoder.layers, 1):
            x = layer(x, None)
            if number in self.depths:
                found[number] = x
        found[0] = x
        return found


def seen_patches(patches: Tensor, count: int) -> Tensor:
    """Which patches are seen, (n, count): the subject's before others, in random order."""
    order = torch.rand(patches.shape) + ((patches >= 0) & (patches < BESIDE)).float()
    return order.argsort(1, descending=True)[:, :count].sort(1).values


def loss(sight: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    assert isinstance(sight, Sight)
    pictures, texts, facts, patches, told = batch
    kept = seen_patches(patches, int(sight.keep))
    kinds, patches = facts[:, 0], patches.take_along_dim(kept, 1)
    with torch.autocast("cpu", torch.bfloat16):
        states = sight.states(pictures, kept)
        pooled = sight.vision.post_layernorm(states.pop(0)[:, 0].float())
        seen = F.normalize(sight.vision.visual_projection(pooled).float(), dim=-1)
        tokens, cells = torch.zeros(()), torch.zeros(())
        for depth, state in states.items():
            state = state.float()
            token = sight.heads[f"token{depth}"](state[:, 0])
            mean = sight.heads[f"mean{depth}"](state[:, 1:].mean(1))
            patch = sight.heads[f"patch{depth}"](state[:, 1:])
            tokens = tokens + F.cross_entropy(token, kinds) + F.cross_entropy(mean, kinds)
            cells = cells + F.cross_entropy(patch.flatten(0, 1), patches.flatten(), ignore_index=-1)
        factors = factor_loss(sight.heads["factors"](pooled), facts)
    contrast, _ = clip.contrastive(sight.logit_scale, texts[told], seen[told])
    named = SCALE * seen @ sight.classes.T
    zero_shot = F.cross_entropy(named, kinds)
    count = len(states)
    total = contrast + zero_shot + tokens / (2 * count) + cells / count + 0.5 * factors
    return total, {
        "clip": float(contrast.detach()),
        "class": float((named.argmax(1) == kinds).float().mean()),
        "tokens": float(tokens.detach()) / (2 * count),
        "cells": float(cells.detach()) / count,
        "factors": float(factors.detach()),
    }


def layers(tower: VisionTower) -> list[clip.Layer]:
    return [module for module in tower.modules() if isinstance(module, clip.Layer)]


@torch.no_grad()
def begun(tower: VisionTower, pictures: Tensor) -> VisionTower:
    """A tower of few layers with a start that makes the first steps count.

    Patches enter along their principal components, half whitened; places are sines and cosines of
    two dimensions; queries and keys are near the identity, so that like attends to like (Trockman
    and Kolter 2023); the projection into CLIP's space is the one that the tower had.
    """
    torch.manual_seed(3)
    new = VisionTower(clip.Shape(vision_layers=EARLY))
    new.visual_projection.weight.copy_(tower.visual_projection.weight)
    side = clip.Shape().patch
    x = F.unfold((pictures - new.mean) / new.std, side, stride=side).transpose(1, 2).flatten(0, 1)
    values, vectors = torch.linalg.eigh(x.T.cov())
    width = clip.Shape().width
    kernel = (vectors[:, -width:] / values[-width:].sqrt().sqrt()).T
    new.patch_embedding.weight.copy_(kernel.view(width, 3, side, side))
    new.position_embedding.weight.zero_()
    new.position_embedding.weight[1:] = waves(width)
    for layer in layers(new):
        for linear in (layer.self_attn.q_proj, layer.self_attn.k_proj):
            linear.weight.copy_(torch.eye(width) + 0.05 * torch.randn(width, width))
            linear.bias.zero_()
    return new


def waves(width: int) -> Tensor:
    """Sine-cosine positions of the patches, rows and columns in a half each, (64, width)."""
    places = torch.arange(GRID).float()
    rates = 1 / 100 ** (torch.arange(width // 4) / (width // 4))
    angles = places[:, None] * rates
    each = torch.cat([angles.sin(), angles.cos()], 1)  # (8, width / 2)
    rows, columns = each.repeat_interleave(GRID, 0), each.repeat(GRID, 1)
    return 0.5 * torch.cat([rows, columns], 1)


@torch.no_grad()
def grown(tower: VisionTower) -> VisionTower:
    """All ten layers, the new ones at the end with outputs of zero: the same function."""
    torch.manual_seed(4)
    new = VisionTower(clip.Shape())
    state = new.state_dict() | tower.state_dict()
    new.load_state_dict(state)
    for layer in layers(new)[EARLY:]:
        for linear in (layer.self_attn.out_proj, layer.mlp.fc2):
            linear.weight.zero_()
            linear.bias.zero_()
    return new


def trained_tower(root: Path) -> VisionTower:
    """The running average of the second part's tower."""
    state = torch.load(root / "vision" / "state.pt", map_location="cpu", weights_only=True)["ema"]
    tower = VisionTower(clip.Shape())
    tower.load_state_dict(under(state, "vision."))
    return tower.eval().requires_grad_(False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--grow", action="store_true", help="the second part")
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--shards", type=int, default=30)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--cache")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    root = folder(args.cache)
    sights = Sights(root, args.shards, args.batch)
    prompts, tower = class_embeddings(), load_pair().vision
    some = torch.from_numpy(rendered(root, 1).arrays()[0][:400]).permute(0, 3, 1, 2)
    early = Sight(begun(copy.deepcopy(tower), some[:, :3].float() / 255), prompts)
    plan = Plan(
        args.steps, None, 4e-3, warmup=40, weight_decay=0.01, ema=0.98, log_every=20, hold=0.3,
        muon=True,
        outer=("heads", "vision.patch_embedding", "vision.position_embedding",
               "vision.visual_projection"),
    )  # fmt: skip
    if args.grow:
        first = Run(root / "vision_early", early, plan, torch.device("cpu")).ema
        assert isinstance(first, Sight)
        sight = Sight(grown(first.vision), prompts)
        sight.heads.load_state_dict(sight.heads.state_dict() | first.heads.state_dict())
        plan = Plan(**{**vars(plan), "learning_rate": 3e-3})
        run = Run(root / "vision", sight, plan, torch.device("cpu"))
    else:
        run = Run(root / "vision_early", early, plan, torch.device("cpu"))

    def watched(module: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        assert isinstance(module, Sight)
        if args.grow and run.progress() > 1 - WHOLE:
            module.keep.fill_(GRID**2)
        return loss(module, batch)

    run.train(sights.batches, watched)


if __name__ == "__main__":
    main()
