"""How each method learns on the miniature: one table for the demo, the study and their tables.

A method joins by one more line; a line whose node the pack does not have (yet) is left out.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..miniature.files import WEIGHTS
from ..miniature.subjects import Subject
from .miniature_models import GUIDANCE, SIZE, STEPS

PLACEHOLDER = "<it>"
FIVE_WORDS = " ".join([PLACEHOLDER, *(f"<it:word{n}>" for n in range(1, 5))])
"""How a prompt names all that ELITE's encoder has made of a picture."""
DRAWING = {"steps": STEPS, "cfg": GUIDANCE, "sampler": "euler", "scheduler": "normal"}
"""How every picture is sampled."""


@dataclass(frozen=True)
class Recipe:
    """What a method is set to on the miniature, and how prompts name what it learned.

    node: id of its Train node, empty for a baseline that learns nothing
    settings: inputs of the node unlike its defaults
    naming: what a prompt says in the subject's place; `{class}` and `{described}` are the subject's
    face_naming: the same for people, where it differs
    class_input: the node's input that takes the class word
    takes_masks: the node wants the subject's masks and a CLIP vision encoder, too
    encoder: of ELITE, the file beside the miniature's weights that turns pictures into concepts
    details: of ELITE, the strength of its details, 0 for the words alone
    part: the study draws it to answer a claim; it is not a way to use the method
    """

    title: str
    node: str
    settings: dict[str, Any] = field(default_factory=dict)
    naming: str = PLACEHOLDER
    face_naming: str = ""
    class_input: str = "class_word"
    takes_masks: bool = False
    encoder: str = ""
    details: float = 0.8
    part: bool = False

    @property
    def learns(self) -> bool:
        return bool(self.node)

    def name(self, subject: Subject) -> str:
        """The words that stand for the subject in prompts."""
        words = (self.face_naming if subject.is_person else "") or self.naming
        described = subject.described
        return words.replace("{class}", subject.class_word).replace("{described}", described)

    def inputs(self, subject: Subject) -> dict[str, Any]:
        """Inputs of the node for a subject, its pictures and models left out."""
        own = {"placeholder": PLACEHOLDER, self.class_input: subject.class_word}
        if self.encoder:
            return own
        if self.node == "PersonalizeTrainCrossInit":
            own["init_from"] = "names" if subject.is_person else "class word"
        # the world has a left and a right: mirror images would teach that they are the same
        return {"resolution": SIZE, "flip": False, **own, **self.settings}


_CROSS_INIT: dict[str, Any] = {
    "node": "PersonalizeTrainCrossInit",
    "naming": f"{PLACEHOLDER} {{class}}",
    "face_naming": f"face of {PLACEHOLDER} person",
}
_ELITE: dict[str, Any] = {
    "node": "PersonalizeEncodeELITE",
    "takes_masks": True,
    "encoder": "miniature_elite.safetensors",
}
_OWN = {"preset": "custom"}
"""A node's preset would put its own numbers in the place of a recipe's."""

RECIPES = {
    "class": Recipe("class word", "", naming="{class}"),
    "described": Recipe("described in words", "", naming="{described}"),
    "ti": Recipe(
        "Textual Inversion",
        "PersonalizeTrainTextualInversion",
        {"steps": 100, "batch_size": 4, "learning_rate": 0.005},
        class_input="init_word",
    ),
    "ci-fast": Recipe(
        "Cross Initialization, fast",
        settings={**_OWN, "steps": 25, "batch_size": 4, "learning_rate": 0.08},
        **_CROSS_INIT,
    ),
    "ci": Recipe(
        "Cross Initialization",
        settings={**_OWN, "steps": 100, "batch_size": 4, "learning_rate": 0.02},
        **_CROSS_INIT,
    ),
    "catversion": Recipe(
        "CatVersion",
        "PersonalizeTrainCatVersion",
        {"steps": 100, "batch_size": 4, "learning_rate": 0.1, "residual_tokens": 8},
    ),
    "custom": Recipe(
        "Custom Diffusion",
        "PersonalizeTrainCustomDiffusion",
        # the small model has seen no picture that stands on grey
        {"steps": 100, "batch_size": 4, "learning_rate": 1e-3, "prior_count": 16, "zoom": False},
    ),
    "detex": Recipe(
        "DETEX",
        "PersonalizeTrainDETEX",
        {"steps": 100, "batch_size": 4, "learning_rate": 1e-3, "prior_count": 16},
        takes_masks=True,
    ),
    "elite": Recipe("ELITE", naming=f"{PLACEHOLDER} {{class}}", **_ELITE),
    "elite-word": Recipe("ELITE, its word alone", details=0.0, part=True, **_ELITE),
    "elite-five": Recipe(
        "ELITE, all five words",
        naming=FIVE_WORDS,
        details=0.0,
        part=True,
        **_ELITE,
    ),
}


def recipes_for(nodes: Container[str], weights: Path = WEIGHTS) -> dict[str, Recipe]:
    """The baselines, and the methods whose nodes and encoder are there, by key."""
    return {
        key: recipe
        for key, recipe in RECIPES.items()
        if not recipe.learns or (recipe.node in nodes and (weights / recipe.encoder).exists())
    }


def without_encoder(weights: Path = WEIGHTS) -> list[str]:
    """A sentence for each method whose encoder is not beside the miniature's weights."""
    return [
        f"{recipe.title} is left out: there is no {weights / recipe.encoder}."
        for recipe in RECIPES.values()
        if not recipe.part and not (weights / recipe.encoder).exists()
    ]
