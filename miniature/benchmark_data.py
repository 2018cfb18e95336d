"""Individuals of the miniature's world on disk, for the benchmark:

    python -m miniature.benchmark_data FOLDER --things 4 --clip MODELS/clip_metrics/miniature

The layout is DreamBench's, with masks. --clip also writes the miniature's own CLIP in transformers'
layout, to score with.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from .clip_folder import write_clip
from .subjects import FACE_PROMPTS, THING_PROMPTS, Prompt, Subject, face, thing

CLASSES_FILE = "prompts_and_classes.txt"


def write_subjects(folder: Path, subjects: Sequence[Subject]) -> None:
    """A folder a subject with 00.png, 00_mask.png, ..., and the file of classes and prompts."""
    rows = ["subject_name,class"]
    for subject in subjects:
        name = subject.name.replace(" ", "_")
        rows.append(f"{name},{subject.class_word}")
        (folder / name).mkdir(parents=True, exist_ok=True)
        pairs = zip(subject.references.pictures, subject.references.masks, strict=True)
        for number, (picture, mask) in enumerate(pairs):
            path = folder / name / f"{number:02}.png"
            as_image(picture).save(path)
            as_image(mask).save(path.with_name(f"{path.stem}_mask.png"))
    lists = (("Object Prompts", THING_PROMPTS), ("Live Subject Prompts", FACE_PROMPTS))
    parts = ["Classes", "\n".join(rows), "Prompts"]
    parts += [f"{title}\n\n{prompt_list(prompts)}" for title, prompts in lists]
    (folder / CLASSES_FILE).write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def prompt_list(prompts: Sequence[Prompt]) -> str:
    lines = [f"'{p.about('{0} {1}')}'.format(unique_token, class_token)" for p in prompts]
    return "prompt_list = [\n" + ",\n".join(lines) + "\n]"


def as_image(values: torch.Tensor) -> Image.Image:
    """(h, w, 3) or (h, w) in 0..1."""
    return Image.fromarray((values * 255).round().numpy().astype(np.uint8))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--things", type=int, default=4)
    parser.add_argument("--faces", type=int, default=2)
    parser.add_argument("--clip", type=Path, help="also write the miniature's CLIP here")
    parser.add_argument("--vocabulary", type=Path, help="folder with CLIP's vocab.json, merges.txt")
    args = parser.parse_args()
    subjects = [thing(n) for n in range(args.things)] + [face(n) for n in range(args.faces)]
    write_subjects(args.folder, subjects)
    if args.clip:
        write_clip(args.clip, args.vocabulary)


if __name__ == "__main__":
    main()
