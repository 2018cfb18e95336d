"""Apply a concept's differences of cross-attention weights to a MODEL: everywhere, or in the
concept's own prompts alone (`local_weights.py`)."""

from typing import TYPE_CHECKING

from torch import Tensor

from ..concepts.concept import Concept
from ..concepts.differences import difference_shapes, weight_differences, whole_weights, with_starts
from ..concepts.errors import BaseModelError
from ..host.weights import add_differences, own_weights, weight_shapes
from .local_attention import Details
from .local_weights import LocalWeights, with_local_weights
from .prompt_words import AppliedConcept

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher


def with_differences(model: "ModelPatcher", applied: AppliedConcept, _: Details) -> "ModelPatcher":
    """A clone of the MODEL with the concept's differences."""
    differences = differences_for(model, applied.concept)
    if applied.own_prompts:
        placeholder = applied.concept.placeholder
        strength = applied.strength.scaled()
        return with_local_weights(model, LocalWeights(placeholder, differences, strength))
    clone = model.clone()
    add_differences(clone, differences, applied.strength.scaled())
    return clone


def differences_for(model: "ModelPatcher", concept: Concept) -> dict[str, Tensor]:
    """The concept's differences by path, fp32; of whole weights, to the MODEL's own ones.

    So whole weights replace the MODEL's own as their program does, yet LoRAs, other concepts and a
    strength act as they do beside any other difference. Raises BaseModelError for weights that the
    MODEL lacks.
    """
    concept = with_own_starts(model, concept)
    _check_weights(model, concept, difference_shapes(concept))  # before products take memory
    return weight_differences(concept)


def with_own_starts(model: "ModelPatcher", concept: Concept) -> Concept:
    """The concept with differences to the MODEL's own weights in the place of whole weights."""
    whole = whole_weights(concept)
    if not whole:
        return concept
    _check_weights(model, concept, {path: tuple(weight.shape) for path, weight in whole.items()})
    return with_starts(concept, own_weights(model, whole))


def _check_weights(
    model: "ModelPatcher", concept: Concept, shapes: dict[str, tuple[int, ...]]
) -> None:
    known = weight_shapes(model, shapes)
    for path, shape in shapes.items():
        if known.get(path) != shape:
            raise BaseModelError(
                f"The concept {concept.placeholder} changes {path} of {shape}, which this MODEL "
                f"{f'has as {known[path]}' if path in known else 'lacks'}. Load a "
                "checkpoint of the family that the concept was learned on."
            )
