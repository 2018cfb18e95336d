"""Pictures with masks to train an ELITE encoder on: python -m miniature.train.elite_data FOLDER.

Each picture shows another thing or person, with its mask beside it as `name_mask.png`.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from ..world.render import render
from ..world.scene import Scene, random_object, random_person

PEOPLE = 0.3  # share of faces, as in the training set of the miniature
SEED = 71


def scene_of(number: int) -> Scene:
    """A thing or a person that stands alone, seen in any pose and place."""
    rng = np.random.default_rng([SEED, number])
    if rng.random() < PEOPLE:
        return random_person(rng)
    while True:
        scene = random_object(rng)
        if scene.other is None and scene.size != "far":
            return scene


def write(folder: Path, pictures: int) -> None:
    """Write the pictures that are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(pictures):
        path = folder / f"{number:06d}.png"
        if not path.exists():
            picture, mask = render(scene_of(number))
            Image.fromarray(mask).save(path.with_name(f"{path.stem}_mask.png"))
            Image.fromarray(picture).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pictures", type=int, default=4000)
    args = parser.parse_args()
    write(args.folder, args.pictures)
    print(f"{args.pictures} pictures in {args.folder}")


if __name__ == "__main__":
    main()
