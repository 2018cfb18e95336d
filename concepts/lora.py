"""A concept's changes of weights as a LoRA, in the names that kohya's scripts gave them.

``lora_unet_<layer>.lora_up.weight`` (out, r), ``.lora_down.weight`` (r, in) and ``.alpha``, which
is r, so that a strength of 1 adds the product as it is. The layers of Stable Diffusion 1.x and 2.x
have diffusers' names with ``_`` for every dot, those of XL the host's, as kohya's scripts write
them: so the host, AUTOMATIC1111's web UI and diffusers all know them.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from .concept import Concept
from .differences import compressed, factors, whole_weights
from .errors import PersonalizeError
from .methods import ClassWord
from .unet_paths import diffusers_block, res_blocks_of

_VERSIONS = {"sd1": "sd_v1", "sd2": "sd_v2", "sdxl": "sdxl_base_v1-0"}
"""What other programs call a base model in a LoRA's metadata."""
_HOST_NAMES = ("sdxl",)
"""Bases whose layers have the host's names in kohya's files."""


def lora_tensors(concept: Concept, rank: int) -> tuple[dict[str, Tensor], float]:
    """The concept's changes of weights as a LoRA of that rank, and what is lost of them.

    rank: 0 loses nothing but what fp16 rounds
    Returns tensors in fp16 and the error ||difference - LoRA|| / ||difference|| over all weights.
    Raises PersonalizeError for a concept without such changes.
    """
    if not concept.method.changes_weights:
        raise PersonalizeError(
            f"A {concept.method.title} concept changes no weights of the MODEL, so a LoRA cannot "
            "hold it. Expected a Custom Diffusion or DETEX concept. Save a concept of words with "
            "also_as_embedding of Save Concept instead."
        )
    if whole_weights(concept):
        raise PersonalizeError(
            f"The concept {concept.placeholder} came from another program with whole weights, and "
            "their changes show only beside a MODEL. Connect the MODEL that it was learned on."
        )
    small, error = compressed(concept, rank) if rank else (concept, 0.0)
    tensors = {}
    for layer, (up, down) in _named(concept.base, factors(small)).items():
        tensors[f"{layer}.lora_up.weight"] = up
        tensors[f"{layer}.lora_down.weight"] = down
        tensors[f"{layer}.alpha"] = torch.tensor(float(len(down)))
    return tensors, error


def lora_metadata(concept: Concept, tensors: Mapping[str, Tensor], write: str) -> dict[str, str]:
    """What other programs show of a LoRA.

    write: the text that stands for the concept in a prompt
    """
    ranks = sorted({len(t) for name, t in tensors.items() if name.endswith(".lora_down.weight")})
    return {
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(ranks[-1]),
        "ss_network_alpha": str(ranks[-1]),
        "ss_base_model_version": _VERSIONS[concept.base],
        "ss_v2": str(concept.base == "sd2"),
        "modelspec.title": concept.placeholder.strip("<>"),
        "modelspec.trigger_phrase": write,
    }


def written_with_embeddings(concept: Concept, names: Mapping[str, str]) -> dict[str, str]:
    """What stands for each word of the concept in a prompt of the host, by the word's name.

    names: of the embedding that holds each word, "" for the placeholder's own
    """
    written = {word: f"embedding:{name}" for word, name in names.items()}
    if concept.method.class_word not in (ClassWord.APPENDED, ClassWord.WRITTEN):
        return written
    return {word: f"{text} {concept.class_word_of(word)}".strip() for word, text in written.items()}


def _named(
    base: str, pairs: Mapping[str, tuple[Tensor, Tensor]]
) -> dict[str, tuple[Tensor, Tensor]]:
    res_blocks = res_blocks_of(pairs)
    named = {}
    for path, pair in pairs.items():
        block, _, layer = path.partition(".attn2.")
        if base not in _HOST_NAMES:
            block = diffusers_block(block, res_blocks) or block
        named[f"lora_unet_{block}.attn2.{layer}".replace(".", "_")] = pair
    return named
