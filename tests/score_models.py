"""Tiny random CLIP and DINO models in transformers' layout, each in a folder of its own."""

import json
from pathlib import Path

import torch
import transformers

SIDE = 32


def write_clip(folder: Path, seed: int = 0, patch: int = 8, width: int = 24) -> Path:
    """A CLIP of 32 px and width 32 whose tokenizer knows single letters.

    width: of its embeddings
    """
    torch.manual_seed(seed)
    shape = {
        "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2,
        "num_hidden_layers": 2, "initializer_factor": 8.0,
    }  # fmt: skip
    words = vocabulary()
    ends = {"bos_token_id": words["<|startoftext|>"], "eos_token_id": words["<|endoftext|>"]}
    config = transformers.CLIPConfig(
        text_config={**shape, **ends, "vocab_size": len(words)},
        vision_config={**shape, "image_size": SIDE, "patch_size": patch},
        projection_dim=width,
    )
    transformers.CLIPModel(config).save_pretrained(folder)
    write_json(folder / "vocab.json", words)
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "CLIPTokenizer"})
    processor = {
        "image_processor_type": "CLIPImageProcessor", "do_resize": True, "do_center_crop": True,
        "do_rescale": True, "do_normalize": True, "do_convert_rgb": True, "resample": 3,
        "size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE},
        "image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28],
    }  # fmt: skip
    write_json(folder / "preprocessor_config.json", processor)
    return folder


def write_dino(folder: Path, seed: int = 1) -> Path:
    """A ViT as DINO is published: no pooling layer, and an old preprocessor file."""
    torch.manual_seed(seed)
    config = transformers.ViTConfig(
        hidden_size=32, intermediate_size=64, num_attention_heads=2, num_hidden_layers=2,
        image_size=SIDE, patch_size=8, initializer_range=0.3,
    )  # fmt: skip
    transformers.ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    processor = {
        "feature_extractor_type": "ViTFeatureExtractor", "do_resize": True, "do_normalize": True,
        "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
        "resample": 2, "size": SIDE,
    }  # fmt: skip
    write_json(folder / "preprocessor_config.json", processor)
    return folder


def vocabulary() -> dict[str, int]:
    """Bytes as CLIP writes them, alone and at the end of a word, then the two ends of a text."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = [chr(b) for b in plain]
    letters += [chr(256 + n) for n in range(256 - len(plain))]
    words = [*letters, *(letter + "</w>" for letter in letters)]
    return {word: n for n, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")
