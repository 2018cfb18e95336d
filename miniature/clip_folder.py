"""The miniature's pair as a CLIP in transformers' layout, for Evaluate Concept to score with:

    python -m miniature.clip_folder COMFYUI/models/clip_metrics/miniature

The vocabulary is CLIP's own, which ComfyUI carries.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from .comfy_pack.vocabulary import END, HOST_ROWS, START
from .files import load_pair
from .host import host_path
from .models.clip import MEAN, STD, Pair, Shape

VOCABULARY = ("vocab.json", "merges.txt")
IN_HOST = Path("comfy", "sd1_tokenizer")


def write_clip(folder: Path, vocabulary: Path | None = None, pair: Pair | None = None) -> Path:
    """The pair as transformers' CLIPModel reads it, fp32, with all word rows.

    vocabulary: folder with CLIP's vocab.json and merges.txt; by default that of the ComfyUI around
    `folder`, or else of `host_path`. Raises FileNotFoundError where there is none.
    """
    pair, vocabulary = pair or load_pair(), vocabulary or host_vocabulary(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.contiguous() for name, tensor in clip_tensors(pair).items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    for name, content in descriptions(Shape()).items():
        (folder / name).write_text(json.dumps(content, indent=1), encoding="utf-8")
    for name in VOCABULARY:
        shutil.copyfile(vocabulary / name, folder / name)
    return folder


def host_vocabulary(folder: Path) -> Path:
    """CLIP's vocabulary of the ComfyUI that the folder lies in, or else of any that is known."""
    around = (parent / IN_HOST for parent in folder.resolve().parents)
    return next(filter(Path.is_dir, around), None) or host_path() / IN_HOST


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


def descriptions(shape: Shape) -> dict[str, dict]:
    """Files that say what the tensors are, and how pictures and texts become their input."""
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
    return {
        "config.json": config,
        "preprocessor_config.json": processor,
        "tokenizer_config.json": {"tokenizer_class": "CLIPTokenizer"},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--vocabulary", type=Path, help="folder with CLIP's vocab.json, merges.txt")
    args = parser.parse_args()
    print(write_clip(args.folder, args.vocabulary))


if __name__ == "__main__":
    main()
