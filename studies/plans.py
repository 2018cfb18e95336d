"""What a study runs: which subjects, methods, pictures and prompts, as lists of trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .claims import VARIANTS
from .recipes import RECIPES
from .trials import Trial

Changes = tuple[tuple[str, Any], ...]

TRIED: tuple[tuple[str, Changes], ...] = (
    ("ti", ()),
    ("ti", (("learning_rate", 0.01),)),
    ("ti", (("steps", 300),)),
    ("catversion", (("residual_tokens", 1), ("learning_rate", 0.05))),
    ("catversion", (("residual_tokens", 1), ("learning_rate", 0.05), ("steps", 300))),
    ("catversion", (("residual_tokens", 1),)),
    ("catversion", (("residual_tokens", 4), ("learning_rate", 0.05))),
    ("catversion", (("residual_tokens", 4),)),
    ("catversion", ()),
)
"""Settings compared on subjects outside the study, as changes of a recipe."""

FROM_ONE = ("ti", "ci", "custom")
"""What is held against ELITE, which learns from one picture."""

BASELINES = [key for key, recipe in RECIPES.items() if not recipe.learns]
TEXT_LAYERS = 8


@dataclass(frozen=True)
class Plan:
    """How large a study is.

    first: number of the first thing and of the first face; no choice was made on those of the study
    shots: how many pictures of a thing are learned from; of a face it is the fewest
    steps: of every training, 0 for its recipe's own
    """

    things: int = 20
    faces: int = 20
    first: int = 100
    prompts: int = 15
    shots: tuple[int, ...] = (4, 1)
    curve_faces: int = 12
    curve_prompts: int = 4
    curve_at: tuple[int, ...] = (5, 10, 25, 50)
    layer_subjects: int = 4
    layer_prompts: int = 5
    tried_on: tuple[str, ...] = ("thing 20", "face 20", "thing 21", "face 21", "thing 22")
    tried_prompts: int = 5
    steps: int = 0

    def shots_of(self, subject: str) -> tuple[int, ...]:
        return (min(self.shots),) if subject.startswith("face") else self.shots

    @property
    def subjects(self) -> list[str]:
        """Things and faces in turn, so that the first ones are some of both."""
        things, faces = (
            [f"{kind} {self.first + n}" for n in range(count)]
            for kind, count in (("thing", self.things), ("face", self.faces))
        )
        pairs = zip(things, faces, strict=False)
        mixed = [name for pair in pairs for name in pair]
        return mixed + things[len(faces) :] + faces[len(things) :]


SMALL = Plan(
    things=1,
    faces=1,
    first=0,
    prompts=1,
    shots=(1,),
    curve_faces=1,
    curve_prompts=1,
    curve_at=(1, 2),
    layer_subjects=1,
    layer_prompts=1,
    tried_on=("thing 20",),
    tried_prompts=1,
    steps=2,
)
"""For tests: everything once, nothing learned."""

# --- what is run ------------------------------------------------------------------------------


def methods_trials(plan: Plan, keys: Sequence[str]) -> list[Trial]:
    """Baselines once a subject, every method with each number of pictures, ELITE with one."""
    trials = []
    for name in plan.subjects:
        trials += [Trial(name, key, 0, plan.prompts) for key in keys if key in BASELINES]
        for shots in plan.shots_of(name):
            trials += [
                Trial(name, key, shots, plan.prompts, changes=_steps(plan))
                for key in keys
                if key not in BASELINES and _learns_from(key, name, shots, plan)
            ]
    return trials


def _learns_from(key: str, name: str, shots: int, plan: Plan) -> bool:
    """Whether a method is tried with so many pictures: an encoder reads one, and things are learned
    from one picture only by what the claims compare with encoders.
    """
    if RECIPES[key].encoder:
        return shots == 1
    return shots == max(plan.shots_of(name)) or key in FROM_ONE


def margin_trials(plan: Plan, keys: Sequence[str]) -> list[Trial]:
    """The class word and fast Cross Initialization."""
    return most_pictures(plan, methods_trials(plan, [k for k in keys if k in ("class", "ci-fast")]))


def catversion_trials(plan: Plan, keys: Sequence[str]) -> list[Trial]:
    """CatVersion and Textual Inversion, with equal steps and batches; faces, too, are learned from
    as many pictures as things, since CatVersion's paper learns from several."""
    return [
        Trial(name, key, max(plan.shots), plan.prompts, changes=_steps(plan))
        for name in plan.subjects
        for key in ("ti", "catversion")
        if key in keys
    ]


def settings_trials(plan: Plan, keys: Sequence[str]) -> list[Trial]:
    """CatVersion and Textual Inversion with other settings than their recipes'."""
    return [t for key, changes in TRIED if key in keys for t in tried(plan, key, changes)]


def tried(plan: Plan, key: str, changes: Changes) -> list[Trial]:
    """A recipe with changes, on each subject that settings are compared on."""
    settings = (*changes, *_steps(plan))
    return [
        Trial(name, key, max(plan.shots), plan.tried_prompts, changes=settings)
        for name in plan.tried_on
    ]


def most_pictures(plan: Plan, trials: Sequence[Trial]) -> list[Trial]:
    """Those that learn nothing, or from as many pictures of their subject as there are."""
    return [trial for trial in trials if trial.shots in (0, max(plan.shots_of(trial.subject)))]


def layers_trials(plan: Plan, keys: Sequence[str]) -> list[Trial]:
    """CatVersion's residuals in layers 1-2, 3-4, 5-6 and 7-8 (Figure 4)."""
    places = [(("layers", 2), ("last_layer", last)) for last in range(2, TEXT_LAYERS + 1, 2)]
    return [
        Trial(
            name,
            "catversion",
            max(plan.shots),
            plan.layer_prompts,
            changes=(*place, *_steps(plan)),
        )
        for name in plan.subjects[: plan.layer_subjects]
        for place in places
    ]


def curves_trials(plan: Plan, keys: Sequence[str]) -> list[Trial]:
    """Quality over steps, from one picture of a face."""
    steps = ("steps", plan.curve_at[-1])
    return [
        Trial(name, v.recipe, 1, plan.curve_prompts, plan.curve_at, (*v.changes, steps))
        for name in [name for name in plan.subjects if "face" in name][: plan.curve_faces]
        for v in VARIANTS
    ]


def all_trials(plan: Plan, keys: Sequence[str]) -> list[Trial]:
    """Every part, subject by subject, so that a study that is not finished tells of some whole."""
    parts = (methods_trials, catversion_trials, layers_trials, curves_trials)
    trials = [trial for part in parts for trial in part(plan, keys)]
    order = {name: n for n, name in enumerate(plan.subjects)}
    return sorted(trials, key=lambda trial: order[trial.subject])


def _steps(plan: Plan) -> Changes:
    return (("steps", plan.steps),) if plan.steps else ()
