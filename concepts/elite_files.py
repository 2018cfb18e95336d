"""Files of ELITE encoders: the official pair of mappers, and our own one-file format.

Ours is a ``.safetensors`` with the tensors ``global.<name>`` and ``local.<name>`` under the names
of `stage_tensors`, and the metadata ``format``, ``name``, ``base``, ``text_width``,
``vision_width``, ``vision_layers``, ``vision_patches`` and ``digest``.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor

from .bases import BASES
from .disk import Stamp, stamp
from .elite import (
    BRANCHES,
    MOST_VISION,
    EliteEncoder,
    EliteStage,
    ProjectionPairs,
    encoder_digest,
    mapper_shapes,
    stage_tensors,
)
from .errors import ConceptFileError, shown
from .pickles import read_pickle
from .schema import SchemaError, text, whole_number
from .tensor_files import TensorFile, read_header, read_tensors, write_tensors
from .tensors import is_finite
from .unet_paths import host_block
from .vision import VisionShape

ENCODER_FORMAT = "personalize-elite/1"
OFFICIAL_VISION = VisionShape(width=1024, layers=24, patches=256)  # CLIP ViT-L/14 at 224 px
OFFICIAL_BASE = BASES["sd1"]
_LEVELS = 4  # resolutions of the UNet of Stable Diffusion
_WITH_ATTENTION = 3  # the finest ones have cross attention

_PROJECTION = re.compile(r"(.+)[._]attn2[._]to_([kv])\.weight")


def official_blocks(res_blocks: int = 2) -> dict[str, str]:
    """The 16 cross attentions of Stable Diffusion 1.x: name in diffusers -> the host's path."""
    names = ["mid_block_attentions_0_transformer_blocks_0"]
    for level in range(_WITH_ATTENTION):
        up = _LEVELS - 1 - level
        for way, at, count in (("down", level, res_blocks), ("up", up, res_blocks + 1)):
            names += [
                f"{way}_blocks_{at}_attentions_{n}_transformer_blocks_0" for n in range(count)
            ]
    return {name: host_block(name, res_blocks) or "" for name in names}


def load_official(global_mapper: Path, local_mapper: Path | None = None) -> EliteEncoder:
    """The published `global_mapper.pt`, with its `local_mapper.pt` or for words alone, as the
    program's `inference_global.py` uses it. Nothing in the files is run."""
    if global_mapper == local_mapper:
        raise ConceptFileError(
            f"'{global_mapper.name}' cannot be both mappers. Choose the global_mapper.pt and the "
            "local_mapper.pt of one encoder, or the global one alone."
        )
    vision, width = OFFICIAL_VISION, OFFICIAL_BASE.text_width
    first, second = (
        official_stage(_unpickle(path), path.name, vision.width, width) if path else None
        for path in (global_mapper, local_mapper)
    )
    assert first is not None
    return EliteEncoder(global_mapper.stem, OFFICIAL_BASE.key, width, vision, first, second)


def official_stage(
    tensors: Mapping[str, Tensor], name: str, vision_width: int, text_width: int
) -> EliteStage:
    """One published mapper with its projections, which have diffusers' names."""
    blocks = official_blocks()
    renamed: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        match = _PROJECTION.fullmatch(key)
        if match and match[1].replace(".", "_") in blocks:
            key = f"{blocks[match[1].replace('.', '_')]}.attn2.to_{match[2]}.weight"
        renamed[key] = tensor
    return _stage(renamed, name, vision_width, text_width, list(blocks.values()))


def save_encoder(
    encoder: EliteEncoder,
    path: Path,
    about: Mapping[str, str] = MappingProxyType({}),
    new: bool = False,
) -> None:
    """Write an encoder in our format; the file appears whole or not at all.

    about: more metadata; new: never over another file
    """
    stages = {"global": encoder.global_stage, "local": encoder.local_stage}
    tensors = {
        f"{key}.{name}": tensor
        for key, stage in stages.items()
        if stage
        for name, tensor in stage_tensors(stage).items()
    }
    metadata = {
        **about,
        "format": ENCODER_FORMAT,
        "name": encoder.name,
        "base": encoder.base,
        "text_width": str(encoder.text_width),
        "vision_width": str(encoder.vision.width),
        "vision_layers": str(encoder.vision.layers),
        "vision_patches": str(encoder.vision.patches),
        "digest": encoder.digest,
    }
    write_tensors(tensors, path, metadata, new)


def load_encoder(path: Path) -> EliteEncoder:
    """Read an encoder in our format. Raises ConceptFileError for anything else."""
    path = Path(path)
    metadata, tensors = _read(path)
    try:
        base = text(metadata, "base")
        if base not in BASES:
            raise SchemaError(f"'{shown(base)}'")
        width = whole_number(metadata, "text_width", 1, MOST_VISION)
        sizes = (f"vision_{key}" for key in ("width", "layers", "patches"))
        vision = VisionShape(*(whole_number(metadata, key, 1, MOST_VISION) for key in sizes))
        title = text(metadata, "name", "") or path.stem
    except SchemaError as error:
        raise ConceptFileError(
            f"'{path.name}' says {ENCODER_FORMAT}, but its description lacks or garbles {error}. "
            "Save the encoder again."
        ) from error
    halves: dict[str, dict[str, Tensor]] = {"global": {}, "local": {}}
    for key, tensor in tensors.items():
        stage, _, name = key.partition(".")
        if stage not in halves:
            raise ConceptFileError(
                f"'{path.name}' has an unknown tensor '{shown(key)}'.{_EXPECTED}"
            )
        halves[stage][name] = tensor
    stages = [
        _stage(half, path.name, vision.width, width) if half or key == "global" else None
        for key, half in halves.items()
    ]
    if stages[0] is None:
        raise ConceptFileError(f"'{path.name}' has no global mapper.{_EXPECTED}")
    encoder = EliteEncoder(title, base, width, vision, stages[0], stages[1])
    if metadata.get("digest", encoder.digest) != encoder.digest:
        raise ConceptFileError(
            f"'{path.name}' is damaged: it does not hold what it says. Copy or download it again."
        )
    return encoder


def load_encoder_files(global_mapper: Path, local_mapper: Path | None) -> EliteEncoder:
    """Read an encoder: a file of our format alone, or the official pair or its global half."""
    if global_mapper.suffix == ".safetensors":
        if local_mapper not in (None, global_mapper):
            raise ConceptFileError(
                f"'{global_mapper.name}' holds a whole encoder. Leave local_mapper at its first "
                f"choice, or choose the global_mapper.pt that belongs to '{local_mapper.name}'."
            )
        return load_encoder(global_mapper)
    return load_official(global_mapper, local_mapper)


def find_encoder(paths: Iterable[Path], digest: str) -> EliteEncoder | None:
    """The encoder of a digest among files of our format and official ones, None without one.

    However many concepts refer to an encoder, it is in memory once, for as long as its files stay
    as they are. Raises ConceptFileError when the only file of that digest is damaged.
    """
    pickles, damage = [], None
    for path in map(Path, paths):
        if path.suffix != ".safetensors":
            pickles.append(path)
        elif digest_in_file(path) == digest:
            try:
                return _shared(load_encoder, digest, path)
            except ConceptFileError as error:  # there may be another copy
                damage = error
    digests = {path: _pickle_digest(path, stamp(path)) for path in pickles}
    for pair in itertools.permutations(pickles, 2):
        if encoder_digest(*(digests[path] for path in pair)) == digest:
            return _shared(load_official, digest, *pair)
    for path in pickles:
        if encoder_digest(digests[path], "") == digest:
            return _shared(load_official, digest, path)
    if damage is not None:
        raise damage
    return None


_LOADED: "WeakValueDictionary[tuple[Any, ...], EliteEncoder]" = WeakValueDictionary()


def _shared(load: Callable[..., EliteEncoder], digest: str, *files: Path) -> EliteEncoder:
    key = (digest, *files, *map(stamp, files))
    encoder = _LOADED.get(key)
    if encoder is None:
        encoder = load(*files)
        if encoder.digest != digest:
            raise ConceptFileError(f"'{files[0].name}' was written while it was read. Try again.")
        _LOADED[key] = encoder
    return encoder


@lru_cache
def _pickle_digest(path: Path, _: Stamp) -> str:
    """Digest of an official mapper, empty for other files; the stamp is for the cache only."""
    vision, width = OFFICIAL_VISION.width, OFFICIAL_BASE.text_width
    try:
        return official_stage(_unpickle(path), path.name, vision, width).digest
    except ConceptFileError:
        return ""


def digest_in_file(path: Path) -> str | None:
    """The digest that a file of our format says it has; None for other or damaged files."""
    try:
        metadata = read_header(path, path.name).metadata
    except ConceptFileError:
        return None
    return metadata.get("digest") if metadata.get("format") == ENCODER_FORMAT else None


_EXPECTED = " Expected an ELITE encoder, saved by Save ELITE Encoder or its authors' program."


def _read(path: Path) -> TensorFile:
    form = read_header(path, path.name).metadata.get("format", "")
    if form == ENCODER_FORMAT:
        return read_tensors(path, path.name)
    if form.startswith("personalize-elite/"):
        raise ConceptFileError(
            f"'{path.name}' has the format {form}, this version reads {ENCODER_FORMAT}. "
            "Update Personalize."
        )
    raise ConceptFileError(f"'{path.name}' is no ELITE encoder.{_EXPECTED}")


def _unpickle(path: Path) -> dict[str, Tensor]:
    content = read_pickle(path, path.name)
    values = content.items() if isinstance(content, dict) else [(None, None)]
    if not all(isinstance(key, str) and torch.is_tensor(tensor) for key, tensor in values):
        raise ConceptFileError(f"'{path.name}' is no dictionary of tensors.{_EXPECTED}")
    return content


def _check_numbers(tensor: Tensor, key: str, file: str) -> None:
    if not tensor.is_floating_point():
        raise ConceptFileError(
            f"'{file}' has '{shown(key)}' as {tensor.dtype}, expected fp16 or fp32."
        )
    if not is_finite(tensor):
        raise ConceptFileError(
            f"'{file}' holds NaN or infinite numbers in '{shown(key)}'. Its training failed "
            "or it is damaged: copy or download it again."
        )


def _check_pair(pair: Mapping[str, Tensor], path: str, text_width: int, file: str) -> None:
    """pair: the projections of one cross attention, by their letters, k and v"""
    if set(pair) != {"k", "v"}:
        raise ConceptFileError(
            f"'{file}' lacks the key or value projection of {path}. It may be cut off or from "
            "an unfinished training: copy or download it again."
        )
    if any(t.ndim != 2 or t.shape[1] != text_width for t in pair.values()):
        raise ConceptFileError(
            f"'{file}' has projections of shapes {[tuple(t.shape) for t in pair.values()]} for "
            f"{path}; expected ones that read text of width {text_width}."
        )


def _stage(
    tensors: Mapping[str, Tensor],
    file: str,
    vision_width: int,
    text_width: int,
    blocks: list[str] | None = None,
) -> EliteStage:
    """Check names and shapes of a stage; blocks: the cross attentions that must be there."""
    shapes = mapper_shapes(vision_width, text_width)
    found: dict[str, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        match = _PROJECTION.fullmatch(key)
        known = match and (blocks is None or match[1] in blocks)
        if key not in shapes and not known:
            raise ConceptFileError(f"'{file}' has an unknown tensor '{shown(key)}'.{_EXPECTED}")
        _check_numbers(tensor, key, file)
        if match:
            found.setdefault(match[1], {})[match[2]] = tensor
    _check_branches(tensors, shapes, file)
    for path in blocks or found:
        _check_pair(found.get(path, {}), path, text_width, file)
    if not found:
        raise ConceptFileError(f"'{file}' has no key and value projections.{_EXPECTED}")
    projections: ProjectionPairs = {
        path: (found[path]["k"], found[path]["v"]) for path in sorted(found)
    }
    return EliteStage({key: tensors[key] for key in shapes}, projections)


def _check_branches(tensors: Mapping[str, Tensor], shapes: dict[str, tuple[int, ...]], file: str):
    missing = [key for key in shapes if key not in tensors]
    if missing:
        branches = sorted({key.partition(".")[0] for key in missing})
        raise ConceptFileError(
            f"'{file}' lacks {len(missing)} tensors of {', '.join(branches)}; an ELITE mapper has "
            f"{BRANCHES} branches for the class token and {BRANCHES} for the patches. Copy or "
            "download it again."
        )
    for key, shape in shapes.items():
        if tuple(tensors[key].shape) != shape:
            raise ConceptFileError(
                f"'{file}' has '{key}' of shape {tuple(tensors[key].shape)}, expected {shape}. It "
                "was trained for another vision or text encoder."
            )
