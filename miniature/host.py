"""The host's own code, for its tokenizer, its UNet and the checks; never its `nodes` module."""

import os
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import CLIPTokenizer

ROOT = Path(__file__).resolve().parent.parent


def host_path() -> Path:
    """$COMFYUI_PATH, or the checkout that the project's tools fetch."""
    given = os.environ.get("COMFYUI_PATH")
    path = Path(given) if given else ROOT / ".host" / "ComfyUI"
    if not (path / "comfy").is_dir():
        raise FileNotFoundError(f"No ComfyUI in {path}. Set COMFYUI_PATH to a checkout of it.")
    return path


def import_host() -> None:
    """Make `comfy` importable, on the CPU where there is no GPU."""
    import torch

    if str(host_path()) not in sys.path:
        sys.path.append(str(host_path()))
    from comfy.cli_args import args

    if not torch.cuda.is_available():
        args.cpu = True


@cache
def tokenizer() -> "CLIPTokenizer":
    """The host's own, of CLIP."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(str(host_path() / "comfy" / "sd1_tokenizer"))


@cache
def word_tokens(word: str) -> tuple[int, ...]:
    """The tokens of one white-space separated piece of a text."""
    return tuple(tokenizer()(word)["input_ids"][1:-1])


def tokens(text: str) -> list[int]:
    """Token ids of a text, without start and end."""
    return [t for word in text.split() for t in word_tokens(word)]
