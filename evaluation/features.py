"""Feature extractors: models in transformers' layout, from local folders only.

The folder decides the size and the normalisation of pictures. Nothing is ever downloaded.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from PIL import Image
from torch import Tensor

from ..concepts.errors import EvaluationError

BATCH = 16

WEIGHTS = (
    ("model.safetensors",),
    ("model.safetensors.index.json",),
    ("pytorch_model.bin",),
    ("pytorch_model.bin.index.json",),
)
VISION_FILES = ((("config.json",),), WEIGHTS, (("preprocessor_config.json",),))
CLIP_FILES = (*VISION_FILES, (("tokenizer.json",), ("vocab.json", "merges.txt")))
"""Of each entry one alternative must be there, with all its files."""

_Extractor = TypeVar("_Extractor", bound="Extractor")


@dataclass(frozen=True, eq=False)
class Extractor:
    """An image model with what prepares pictures for it.

    device: where it computes; `module` must be there. on_batch: told how many pictures are done.
    """

    name: str
    module: Any
    processor: Any
    device: str | torch.device = "cpu"
    on_batch: Callable[[int], None] = lambda count: None

    def at(self: _Extractor, device: torch.device, on_batch: Callable[[int], None]) -> _Extractor:
        """The same model on a device; on_batch: told how many inputs were embedded at once."""
        return replace(self, device=device, on_batch=on_batch)

    @torch.inference_mode()
    def embed_pictures(self, pictures: Sequence[Image.Image]) -> Tensor:
        """(N, d), fp32, on the CPU; not normalised."""
        features = []
        for start in range(0, len(pictures), BATCH):
            batch = list(pictures[start : start + BATCH])
            pixels = self.processor(images=batch, return_tensors="pt")["pixel_values"]
            features.append(self._embed(pixels.to(self.device)).float().cpu())
            self.on_batch(len(batch))
        return torch.cat(features)

    def _embed(self, pixels: Tensor) -> Tensor:
        """The class token behind the last norm, as DINO's authors use it; of a network without
        one, what it pools."""
        output = self.module(pixel_values=pixels)
        if output.last_hidden_state.ndim == 3:
            return output.last_hidden_state[:, 0]
        return output.pooler_output.flatten(1)


@dataclass(frozen=True, eq=False)
class ClipExtractor(Extractor):
    """Both towers of a CLIP, with their projections."""

    tokenizer: Any = None

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """(N, d), fp32, on the CPU; not normalised. Texts of more than 77 tokens are cut."""
        features = []
        for start in range(0, len(texts), BATCH):
            tokens = self.tokenizer(
                list(texts[start : start + BATCH]),
                padding=True,
                truncation=True,
                max_length=self.module.config.text_config.max_position_embeddings,
                return_tensors="pt",
            ).to(self.device)
            pooled = self.module.text_model(**tokens).pooler_output
            features.append(self.module.text_projection(pooled).float().cpu())
        return torch.cat(features)

    def _embed(self, pixels: Tensor) -> Tensor:
        # get_image_features returns a tensor in transformers 4 and an output object in 5
        pooled = self.module.vision_model(pixel_values=pixels).pooler_output
        return self.module.visual_projection(pooled)


def load_clip(folder: Path) -> ClipExtractor:
    """CLIP from a folder, in fp32 on the CPU. Raises EvaluationError when it cannot be."""
    from transformers import AutoImageProcessor, AutoTokenizer, CLIPModel

    check_files(folder, CLIP_FILES)
    kind = _model_type(folder)
    if kind != "clip":
        raise EvaluationError(
            f"{folder} holds a model of the type '{kind}', expected 'clip'. Choose a CLIP such as "
            "openai/clip-vit-large-patch14; DINO belongs into dino_folder."
        )
    return ClipExtractor(
        name=folder.name,
        module=_load(CLIPModel, folder),
        processor=_read(AutoImageProcessor, folder),
        tokenizer=_read(AutoTokenizer, folder),
    )


def load_image_model(folder: Path) -> Extractor:
    """An image model such as DINO from a folder, in fp32 on the CPU. Raises EvaluationError when
    it cannot be."""
    from transformers import AutoImageProcessor, AutoModel

    if _model_type(folder) == "clip":
        return load_clip(folder)
    check_files(folder, VISION_FILES)
    return Extractor(folder.name, _load(AutoModel, folder), _read(AutoImageProcessor, folder))


Choices = Sequence[Sequence[str]]


def check_files(folder: Path, wanted: Sequence[Choices]) -> None:
    """Raise EvaluationError, naming the files that are expected and those that are missing."""

    def there(choices: Choices) -> bool:
        return any(all((folder / file).is_file() for file in files) for files in choices)

    missing = [choices for choices in wanted if not there(choices)]
    if missing:
        raise EvaluationError(
            f"{folder} is no complete model folder: it lacks {tell_files(missing)}. Expected there "
            f"are the files of a model as on huggingface.co: {tell_files(wanted)}."
        )


def tell_files(wanted: Sequence[Choices]) -> str:
    """For a message: ``config.json; vocab.json with merges.txt or tokenizer.json``."""
    return "; ".join(" or ".join(" with ".join(files) for files in group) for group in wanted)


def _model_type(folder: Path) -> str:
    try:
        return str(json.loads((folder / "config.json").read_text("utf-8")).get("model_type", ""))
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, AttributeError) as error:
        raise EvaluationError(f"{folder / 'config.json'} cannot be read: {error}") from error


def _read(kind: Any, folder: Path) -> Any:
    """Anything that transformers reads from a folder; no network, no code of others."""
    try:
        return kind.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:  # transformers raises what it likes
        raise EvaluationError(
            f"{folder} cannot be read as a {kind.__name__}: {error} Copy the model's files again."
        ) from error


def _load(kind: Any, folder: Path) -> torch.nn.Module:
    options = {} if kind.__name__.startswith("CLIP") else {"trust_remote_code": False}
    try:
        module, told = kind.from_pretrained(
            str(folder),
            local_files_only=True,
            weights_only=True,
            output_loading_info=True,
            **options,
        )
    except Exception as error:  # transformers raises what it likes
        raise EvaluationError(
            f"The weights in {folder} cannot be loaded: {error} Copy the model's files again."
        ) from error
    # DINO is published without the pooling layer that transformers adds
    missing = sorted(key for key in told["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise EvaluationError(
            f"The weights in {folder} are not those of its config.json: {len(missing)} are "
            f"missing, such as {missing[0]}. Copy the model's files again."
        )
    return module.eval().float().requires_grad_(False)
