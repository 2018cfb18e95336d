"""Apply the features of a picture to a MODEL: their encoder's key and value projections, and local
attention (ELITE)."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..concepts.concept import Concept
from ..concepts.elite import EliteEncoder, ProjectionPairs
from ..concepts.errors import BaseModelError, PersonalizeError
from .local_attention import Details, LocalPart, local_features, with_local_attention
from .prompt_words import AppliedConcept

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

_STATE = "personalize_elite"
"""Key in a MODEL's options: digest of the encoder whose differences it has, and how strongly."""

_ROOT = "diffusion_model."


def with_elite(model: "ModelPatcher", applied: AppliedConcept, details: Details) -> "ModelPatcher":
    """A clone of the MODEL that draws the concept.

    Raises PersonalizeError when the concept's encoder is missing or another one is applied already.
    """
    details.check()
    concept = applied.concept
    encoder = encoder_of(concept)
    model = with_projections(model, encoder, applied.strength.scaled())
    weight, features = applied.strength.scaled(details.strength), local_features(concept)
    if weight == 0 or features is None or encoder.local_stage is None:
        return model
    part = LocalPart(concept, features, details, weight)
    return with_local_attention(model, part, encoder.local_stage.projections)


def encoder_of(concept: Concept) -> EliteEncoder:
    if concept.encoder is not None:
        return concept.encoder
    name = concept.training.get("encoder", {}).get("name", "that made it")
    raise PersonalizeError(
        f"The {concept.title} is drawn with the encoder {name}, which is not "
        "loaded. Put its file into models/elite and load the concept again."
    )


def with_projections(
    model: "ModelPatcher", encoder: EliteEncoder, strength: float
) -> "ModelPatcher":
    """A clone whose cross attentions have the encoder's keys and values, as differences to the
    MODEL's own weights, so that LoRAs on them keep their effect.

    A second concept of the same encoder adds no second time: the larger strength holds.
    """
    clone = model.clone()
    options: dict[str, Any] = clone.model_options
    digest, before = options.get(_STATE, (encoder.digest, 0.0))
    if digest != encoder.digest:
        raise PersonalizeError(
            "Another ELITE encoder is applied to this MODEL already, and both change the same "
            f"keys and values. Encode both pictures with one encoder, such as {encoder.name}."
        )
    if strength > before:
        clone.add_patches(_differences(clone, encoder), strength - before)
    options[_STATE] = (digest, max(strength, before))
    return clone


def _differences(
    model: "ModelPatcher", encoder: EliteEncoder
) -> dict[str, tuple[str, tuple[Tensor]]]:
    weights = _original_weights(model)
    projections = encoder.global_stage.projections
    _check_blocks(weights, projections, encoder)
    patches = {}
    for path, pair in projections.items():
        for letter, weight in zip("kv", pair, strict=True):
            key = _key(path, letter)
            original = weights[key].detach().to("cpu", torch.float32)
            patches[key] = ("diff", (weight.to("cpu", torch.float32) - original,))
    return patches


def _original_weights(model: "ModelPatcher") -> dict[str, Tensor]:
    """Key and value weights of all cross attentions, as in the checkpoint: without any patch."""
    suffixes = (".attn2.to_k.weight", ".attn2.to_v.weight")
    found = model.get_key_patches(_ROOT)
    return {
        key: convert(weight, inplace=False)
        for key, ((weight, convert), *_) in found.items()
        if key.endswith(suffixes)
    }


def _check_blocks(
    weights: dict[str, Tensor], projections: ProjectionPairs, encoder: EliteEncoder
) -> None:
    ours = {
        _key(path, letter): tuple(weight.shape)
        for path, pair in projections.items()
        for letter, weight in zip("kv", pair, strict=True)
    }
    theirs = {key: tuple(weight.shape) for key, weight in weights.items()}
    if ours != theirs:
        raise BaseModelError(
            f"The ELITE encoder {encoder.name} has projections for {len(ours) // 2} cross "
            f"attentions, this MODEL has {len(theirs) // 2}, and their places or sizes differ. "
            "Load a checkpoint of the family that the encoder was trained on."
        )


def _key(path: str, letter: str) -> str:
    return f"{_ROOT}{path}.attn2.to_{letter}.weight"
