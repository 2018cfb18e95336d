"""Apply a concept: patched clones of MODEL and CLIP, with which stock nodes understand it."""

import math
from typing import TYPE_CHECKING

from ..concepts.concept import Concept, Method
from ..concepts.errors import BaseModelError, PersonalizeError
from ..host.bases import base_of_model, context_width, text_tower
from .prompt_words import AppliedConcept, with_concept
from .strength import BlendedEncoding

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import CLIP

_ENCODE = "encode_token_weights"


def apply_concept(
    model: "ModelPatcher", clip: "CLIP", concept: Concept, strength: float = 1.0
) -> tuple["ModelPatcher", "CLIP"]:
    """MODEL and CLIP that know the concept's placeholder; the given ones stay as they are.

    strength: 0 stands for the class word, 1 for the concept as learned, any other number between
        or beyond. A learned word needs no patch of the MODEL: the same object is returned.
    Raises BaseModelError when concept, MODEL and CLIP are not of one base model.
    """
    check_fits(concept, model, clip)
    if not math.isfinite(strength):
        raise PersonalizeError(f"Expected a strength such as 0.8, got {strength}.")
    if concept.method not in WORD_METHODS:
        raise PersonalizeError(
            f"{concept.placeholder} is a {concept.method.title} concept, which this version of "
            "Personalize cannot apply. Update it."
        )
    return model, with_words(clip, AppliedConcept(concept, strength))


WORD_METHODS = {Method.TEXTUAL_INVERSION, Method.CROSS_INIT}


def check_fits(concept: Concept, model: "ModelPatcher", clip: "CLIP") -> None:
    """Refuse a concept of another base model or text width, naming both."""
    tower = text_tower(clip)
    if (concept.base, concept.text_width) != (tower.base.key, tower.width):
        raise BaseModelError(
            f"The concept {concept.placeholder} was learned on {concept.base_title}, but this CLIP "
            f"is {tower.title}. Load a checkpoint that fits, or learn the concept again on this one."
        )
    base, width = base_of_model(model), context_width(model)
    if (concept.base, concept.text_width) != (base.key, width):
        raise BaseModelError(
            f"The concept {concept.placeholder} was learned on {concept.base_title}, but this MODEL "
            f"is {base.title} (text width {width}). Load a checkpoint that fits, or learn the "
            "concept again on this one."
        )


def with_words(clip: "CLIP", applied: AppliedConcept) -> "CLIP":
    """A CLIP whose prompts may hold the concept's words."""
    clone = clip.clone()
    clone.tokenizer = with_concept(clip.tokenizer, applied)
    encode = clone.patcher.get_model_object(_ENCODE)
    if applied.strength not in (0, 1) and not isinstance(encode, BlendedEncoding):
        blended = BlendedEncoding(encode, text_tower(clone))
        clone.patcher.add_object_patch(_ENCODE, blended)
    return clone
