"""Apply a concept's differences of cross-attention weights to a MODEL.

They are the host's own weight patches, added to the user's weights, so LoRAs on the same weights
keep their effect in either order. Or they act in the concept's own prompts alone: see
`local_weights.py`.
"""

from typing import TYPE_CHECKING

from torch import Tensor

from ..concepts.concept import Concept
from ..concepts.differences import weight_differences, whole_weights, with_starts
from ..concepts.errors import BaseModelError
from ..host.weights import own_weights
from .local_attention import Details
from .local_weights import LocalWeights, with_local_weights
from .prompt_words import AppliedConcept

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher

_ROOT = "diffusion_model."


def with_differences(model: "ModelPatcher", applied: AppliedConcept, _: Details) -> "ModelPatcher":
    """A clone of the MODEL with the concept's differences."""
    differences = differences_for(model, applied.concept)
    _check_weights(model, applied.concept, {p: tuple(d.shape) for p, d in differences.items()})
    if applied.own_prompts:
        placeholder = applied.concept.placeholder
        strength = applied.strength.scaled()
        return with_local_weights(model, LocalWeights(placeholder, differences, strength))
    clone = model.clone()
    patches = {weight_key(path): ("diff", (matrix,)) for path, matrix in differences.items()}
    clone.add_patches(patches, applied.strength.scaled())
    return clone


def differences_for(model: "ModelPatcher", concept: Concept) -> dict[str, Tensor]:
    """The concept's differences by path, fp32; of whole weights, to the MODEL's own ones.

    So whole weights replace the MODEL's own as their program does, yet LoRAs, other concepts and a
    strength act as they do beside any other difference. Raises BaseModelError for weights that the
    MODEL lacks.
    """
    return weight_differences(with_own_starts(model, concept))


def with_own_starts(model: "ModelPatcher", concept: Concept) -> Concept:
    """The concept with differences to the MODEL's own weights in the place of whole weights."""
    whole = whole_weights(concept)
    if not whole:
        return concept
    _check_weights(model, concept, {path: tuple(weight.shape) for path, weight in whole.items()})
    own = own_weights(model, [weight_key(path) for path in whole])
    return with_starts(concept, {path: own[weight_key(path)] for path in whole})


def weight_key(path: str) -> str:
    """The host's name of the weight of a layer of the UNet."""
    return f"{_ROOT}{path}.weight"


def _check_weights(
    model: "ModelPatcher", concept: Concept, shapes: dict[str, tuple[int, ...]]
) -> None:
    weights = model.model_state_dict(_ROOT)
    for path, shape in shapes.items():
        weight = weights.get(weight_key(path))
        if weight is None or tuple(weight.shape) != shape:
            raise BaseModelError(
                f"The concept {concept.placeholder} changes {path} of {shape}, which this MODEL "
                f"{'lacks' if weight is None else f'has as {tuple(weight.shape)}'}. Load a "
                "checkpoint of the family that the concept was learned on."
            )
