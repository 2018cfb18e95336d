"""Contact sheets: python -m miniature.sheet world docs/miniature-world.png, or generated ..."""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from .cache import folder, world_people
from .generate import family
from .world.backgrounds import BACKGROUNDS
from .world.objects import OBJECTS
from .world.render import render
from .world.scene import random_individual, random_object, random_person, views

PROMPTS = [
    "a photo of a red mug on the beach",
    "a photo of a striped blue ball on the grass",
    "a photo of a yellow duck in the snow",
    "a photo of a green car in the city",
    "a photo of a checkered pink fish on a purple rug",
    "a photo of a brown dog in the forest",
    "a photo of a white house at sunset",
    "a photo of a purple robot on a wooden table",
    "a photo of a dotted orange teapot in the desert",
    "a photo of a red boat at night under the moon",
    "a photo of a blue mug facing left in the forest",
    "a photo of a pink car upside down on the beach",
    "a photo of a black dog wearing a red hat on the grass",
    "a photo of a wet green teapot in the city",
    "a photo of a shiny yellow mug on a wooden table",
    "a photo of a white duck beside a blue ball at sunset",
    "a photo of a person smiling on the beach",
    "a photo of a sad person in the snow",
    "a photo of an angry person with spiky red hair in the city",
    "a photo of a surprised person in the forest",
    "a photo of a person with long blond hair in a blue shirt",
    "a photo of a person with a beard wearing a green hat",
    "a photo of Alan Turing on the grass",
    "a photo of Agatha Christie smiling in the desert",
]


def grid(pictures: list[np.ndarray], columns: int) -> Image.Image:
    """One picture of many, each (128, 128, 3) uint8, row by row."""
    blank = np.full_like(pictures[0], 255)
    pictures = pictures + [blank] * (-len(pictures) % columns)
    rows = [np.concatenate(pictures[k : k + columns], 1) for k in range(0, len(pictures), columns)]
    return Image.fromarray(np.concatenate(rows, 0))


def to_uint8(pictures: torch.Tensor) -> list[np.ndarray]:
    """(n, 3, h, w) in 0..1 -> n arrays (h, w, 3)."""
    return list(pictures.clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1).numpy())


def world_sheet(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    rows = [[random_object(rng, kind) for _ in range(10)] for kind in OBJECTS]
    rows += [
        [random_person(rng, world_people()[k * 7 % 200] if k % 2 else None) for k in range(10)]
        for _ in range(2)
    ]
    for kind in ("mug", "person"):
        rows.append(views(rng, random_individual(rng, kind), 10))
    assert len(BACKGROUNDS) >= 10
    return grid([render(scene)[0] for row in rows for scene in row], 10)


def generated_sheet(root: Path | None, steps: int, guidance: float, seed: int) -> Image.Image:
    return grid(to_uint8(family(root).pictures(PROMPTS, steps, guidance, seed)), 8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["world", "generated"])
    parser.add_argument("file", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--guidance", type=float, default=4.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--training", action="store_true", help="of the training states")
    parser.add_argument("--cache")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.what == "world":
        image = world_sheet(args.seed)
    else:
        root = folder(args.cache) if args.training else None
        image = generated_sheet(root, args.steps, args.guidance, args.seed)
    args.file.parent.mkdir(parents=True, exist_ok=True)
    image.quantize(256).save(args.file, optimize=True)


if __name__ == "__main__":
    main()
