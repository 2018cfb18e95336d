"""Apply the features of a picture to a MODEL: their encoder's key and value projections, and local
attention (ELITE)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..concepts.concept import Concept
from ..concepts.elite import EliteEncoder, by_path, encoder_reference
from ..concepts.errors import BaseModelError, PersonalizeError
from ..concepts.local_features import local_features
from ..host.weights import add_differences, own_projections
from .local_attention import Details, LocalPart, with_local_attention
from .prompt_words import AppliedConcept

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

_STATE = "personalize_elite"
"""Key in a MODEL's options: digest of the encoder whose differences it has, and how strongly."""


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
    """The encoder that made a concept. Raises PersonalizeError where it is not loaded."""
    if concept.encoder is not None:
        return concept.encoder
    reference = encoder_reference(concept.training)
    name = reference.name if reference and reference.name else "that made it"
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
        add_differences(clone, _differences(clone, encoder), strength - before)
    options[_STATE] = (digest, max(strength, before))
    return clone


def _differences(model: "ModelPatcher", encoder: EliteEncoder) -> dict[str, Tensor]:
    """The encoder's keys and values as differences to the MODEL's own weights, by path."""
    own = own_projections(model)
    wanted = by_path(encoder.global_stage.projections)
    _check_blocks(own, wanted, encoder)
    return {path: weight.to("cpu", torch.float32) - own[path] for path, weight in wanted.items()}


def _check_blocks(
    own: Mapping[str, Tensor], wanted: Mapping[str, Tensor], encoder: EliteEncoder
) -> None:
    ours, theirs = ({path: w.shape for path, w in weights.items()} for weights in (wanted, own))
    if ours != theirs:
        raise BaseModelError(
            f"The ELITE encoder {encoder.name} has projections for {len(ours) // 2} cross "
            f"attentions, this MODEL has {len(theirs) // 2}, and their places or sizes differ. "
            "Load a checkpoint of the family that the encoder was trained on."
        )
