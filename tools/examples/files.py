"""The files that the examples name. They are only listed where they are checked: empty ones do."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from .notes import BACKGROUND, CHECKPOINT, CHECKPOINT_XL, FACE_CHECKPOINT, SAM, SAM3, VISION
from .templates import FOLDER

USED = {
    "models/background_removal": [BACKGROUND],
    "models/checkpoints": [CHECKPOINT, CHECKPOINT_XL, FACE_CHECKPOINT, SAM3],
    "models/clip_vision": [VISION],
    "models/elite": ["global_mapper.pt", "local_mapper.pt"],
    "models/sams": [SAM],
    "models/clip_metrics/clip-vit-large-patch14": ["config.json"],
    "output/concepts": [
        f"{start}{name}.safetensors"
        for start in ("", "miniature-")
        for name in ("me", "me-folder", "my-dog", "my-dog-detex")
    ],
    "input": ["example.png"],
    f"input/{FOLDER}": ["1.png", "1.txt"],
}
"""Folder of a base directory -> files."""


def put_files(base_directory: Path) -> list[Path]:
    """Put the missing ones there, empty but for the picture; return what was put."""
    wanted = [base_directory / folder / name for folder, names in USED.items() for name in names]
    put = [path for path in wanted if not path.exists()]
    for path in put:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".png":
            Image.new("RGB", (64, 64), "grey").save(path)
        else:
            path.touch()
    return put
