"""Apply a concept: patched clones of MODEL and CLIP, with which stock nodes understand it."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..concepts.concept import Concept
from ..concepts.errors import BaseModelError, PersonalizeError
from ..concepts.methods import ClassWord, Part
from ..concepts.residuals import residual_layers
from ..host.base_models import TextTowers, base_of_model, context_width, towers_of
from ..host.text_attention import open_layers
from ..host.text_patches import patch_encoding
from .differences import with_differences
from .elite import with_elite
from .encoding import ConceptEncoding
from .local_attention import Details
from .prompt_words import AppliedConcept, tokenizer_with_concept
from .strength import Strength

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import CLIP

_DETAILS = Details()
_FITTING = "Load a checkpoint that fits, or learn the concept again on this one."


def apply_concept(
    model: "ModelPatcher",
    clip: "CLIP",
    concept: Concept,
    strength: float = 1.0,
    *,
    details: Details = _DETAILS,
    own_prompts: bool = False,
) -> tuple["ModelPatcher", "CLIP"]:
    """MODEL and CLIP that know the concept's placeholder; the given ones stay as they are.

    strength: 0 stands for the class word, 1 for the concept as learned, any other number between
        or beyond. A MODEL that nothing of the concept changes is returned itself.
    details: how much of a picture's local features acts, and when
    own_prompts: whether differences of weights act in prompts that name the concept alone, so that
        those of several concepts never meet in different prompts
    Raises BaseModelError when concept, MODEL and CLIP are not of one base model.
    """
    check_fits(concept, model, clip)
    own_prompts = own_prompts and concept.method.changes_weights
    applied = AppliedConcept(concept, Strength(strength), own_prompts)
    return with_parts(model, applied, details), with_text(clip, applied)


def with_parts(
    model: "ModelPatcher", applied: AppliedConcept, details: Details = _DETAILS
) -> "ModelPatcher":
    """A MODEL with what the concept's parts, and a method of its own, do to it."""
    method = applied.concept.method
    if any(part not in PATCHES for part in method.parts):
        raise PersonalizeError(
            f"{applied.concept.placeholder} is a {method.title} concept, which this version of "
            "Personalize cannot apply. Update it."
        )
    if applied.strength.is_zero:
        return model
    for part in method.parts:
        model = PATCHES[part](model, applied, details)
    return model if method.patch is None else method.patch(model, applied)


def _unpatched(model: "ModelPatcher", _: AppliedConcept, __: Details) -> "ModelPatcher":
    return model


PATCHES: dict[Part, Callable[["ModelPatcher", AppliedConcept, Details], "ModelPatcher"]] = {
    Part.WORDS: _unpatched,
    Part.RESIDUALS: _unpatched,
    Part.DIFFERENCES: with_differences,
    Part.LOCAL_FEATURES: with_elite,
}
"""What each part of a concept does to the MODEL."""


def check_fits(concept: Concept, model: "ModelPatcher", clip: "CLIP") -> None:
    """Refuse a concept of another base model or text width, naming both."""
    text = towers_of(clip)
    if (concept.base, concept.text_width) != (text.base.key, text.width):
        raise BaseModelError(
            f"The concept {concept.placeholder} was learned on {concept.base_title}, but this CLIP "
            f"is {text.title}. {_FITTING}"
        )
    base, width = base_of_model(model).base, context_width(model)
    if (concept.base, concept.text_width) != (base.key, width):
        raise BaseModelError(
            f"The concept {concept.placeholder} was learned on {concept.base_title}, but this "
            f"MODEL is {base.title} (text width {width}). {_FITTING}"
        )


def with_text(clip: "CLIP", applied: AppliedConcept) -> "CLIP":
    """A CLIP whose prompts may name the concept."""
    clone, text = clip.clone(), towers_of(clip)
    clone.tokenizer = tokenizer_with_concept(clip, applied)
    residual = Part.RESIDUALS in applied.concept.method.parts
    stock_encoding = not residual and not applied.needs_rows
    if applied.strength.is_zero or (applied.strength.is_one and stock_encoding):
        return clone
    patch_encoding(clone, ConceptEncoding, lambda encode: ConceptEncoding(encode, text))
    if residual:
        _open_layers(clone, text, applied.concept)
    return clone


def _open_layers(clip: "CLIP", text: TextTowers, concept: Concept) -> None:
    """Let the concept's layers attend to residuals; several concepts share an opened layer."""
    layers, _ = residual_layers(concept)
    if concept.method.class_word is ClassWord.KEPT and not concept.class_word:
        raise PersonalizeError(
            f"The {concept.title} has no class word to "
            "stand in the prompt. Write it into class_word of Load Concept, such as dog."
        )
    for tower in text.towers:
        deepest = max(index for encoder, index in layers if encoder == tower.name)
        if deepest >= tower.encoder.num_layers:
            raise BaseModelError(
                f"The concept {concept.placeholder} changes text layer {deepest + 1}, but this "
                f"CLIP has {tower.encoder.num_layers} layers."
            )
    open_layers(clip, layers)
