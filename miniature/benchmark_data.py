"""Individuals of the miniature's world on disk, for the benchmark:

    python -m miniature.benchmark_data FOLDER --things 4 --clip MODELS/clip_metrics/miniature

The layout is DreamBench's, with masks. --clip also writes the miniature's own CLIP in transformers'
layout, to score with.
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from .clip import MEAN, STD, Pair, Shape
from .comfy_pack.vocabulary import END, HOST_ROWS, START
from .files import load_pair
from .host import host_path
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


def write_clip(folder: Path, vocabulary: Path, pair: Pair | None = None) -> Path:
    """The pair as transformers' CLIPModel reads it, fp16.

    vocabulary: folder with CLIP's own vocab.json and merges.txt, such as the host's
    comfy/sd1_tokenizer
    """
    pair, shape = pair or load_pair(), Shape()
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: t.half().contiguous() for name, t in clip_tensors(pair).items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    ends = {"vocab_size": HOST_ROWS, "bos_token_id": START, "eos_token_id": END}
    config = {
        "architectures": ["CLIPModel"], "model_type": "clip", "projection_dim": shape.width,
        "text_config": shape.text_config() | ends, "vision_config": shape.vision_config(),
    }  # fmt: skip
    size = shape.size
    processor = {
        "image_processor_type": "CLIPImageProcessor", "do_resize": True, "do_center_crop": True,
        "do_rescale": True, "do_normalize": True, "do_convert_rgb": True, "resample": 3,
        "size": {"shortest_edge": size}, "crop_size": {"height": size, "width": size},
        "image_mean": list(MEAN), "image_std": list(STD),
    }  # fmt: skip
    tokenizer = {"tokenizer_class": "CLIPTokenizer"}
    contents = {"config": config, "preprocessor_config": processor, "tokenizer_config": tokenizer}
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(vocabulary / name, folder / name)
    return folder


def clip_tensors(pair: Pair) -> dict[str, torch.Tensor]:
    """Names of transformers' CLIPModel."""
    tensors = {"logit_scale": pair.logit_scale.detach()}
    for tower, prefix in ((pair.text, "text_model"), (pair.vision, "vision_model")):
        for name, tensor in tower.state_dict().items():
            embedded = "embedding" in name
            own = name.endswith("_projection.weight") and "." not in name[: -len(".weight")]
            full = f"{prefix}.embeddings.{name}" if embedded else f"{prefix}.{name}"
            tensors[name if own else full] = tensor
    return tensors


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
        write_clip(args.clip, args.vocabulary or host_path() / "comfy" / "sd1_tokenizer")


if __name__ == "__main__":
    main()
