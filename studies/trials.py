"""Trials on the miniature, each run once: a subject, a recipe, pictures of its prompts, scores.

The pictures are kept in a folder under the digest of all that decides them: the models, the
subject, its prompts, the trial and its settings; the scores beside them under the digest of the
judges, who judge anew when they change. So an interrupted study goes on where it stopped, and
several tables share what they have in common.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor

from ..cli.comfyui import ROOT, device_name, wants_cpu
from ..concepts.disk import write_whole
from ..miniature.files import CHECKPOINT, JUDGES, VISION, WEIGHTS, BadWeights
from ..miniature.subjects import Jury, Scores, Subject, face, mean_scores, prompts_for, thing
from .miniature_models import SIZE
from .recipes import DRAWING, RECIPES, Recipe
from .sheets import to_image
from .studio import Stopwatch, Studio

if TYPE_CHECKING:
    from ..training.loop import StepReport

FOLDER = ROOT / ".study"
MANY = 100  # prompts: all that there are
COMPARING = ("text_projection.weight", "logit_scale")


@dataclass(frozen=True)
class Trial:
    """What is tried; equal trials have equal outcomes.

    subject: such as "thing 3" or "face 0"; recipe: a key of RECIPES
    shots: how many reference pictures are learned from
    at: steps after which pictures are judged; none for the last step only
    changes: settings unlike the recipe's, as (name, value)
    """

    subject: str
    recipe: str
    shots: int = 4
    prompts: int = 10
    at: tuple[int, ...] = ()
    changes: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Moment:
    """Pictures judged after a step, one score a prompt; norm of learned words v, cosine to E(v)."""

    step: int
    seconds: float
    scores: tuple[Scores, ...]
    norm: float | None = None
    cosine: float | None = None

    @property
    def mean(self) -> Scores:
        return mean_scores(self.scores)


@dataclass(frozen=True)
class Outcome:
    """grid: file with the pictures, a row each moment, a column each prompt."""

    moments: tuple[Moment, ...]
    grid: Path

    @property
    def last(self) -> Moment:
        return self.moments[-1]

    @property
    def mean(self) -> Scores:
        return self.last.mean

    def pictures(self) -> Tensor:
        """Of the last moment, (n, 128, 128, 3) in 0..1, one a prompt."""
        return read_grid(self.grid)[-1]


@cache
def subject_named(name: str) -> Subject:
    """The subject of a name such as "thing 3"."""
    kind, _, number = name.partition(" ")
    makers = {"thing": thing, "face": face}
    if kind not in makers or not number.isdigit():
        raise ValueError(f"Expected a subject such as 'thing 3' or 'face 0', got '{name}'.")
    return makers[kind](int(number))


class Trials:
    """Runs trials and keeps their outcomes; opens the miniature at the first that is new."""

    def __init__(self, folder: Path = FOLDER, weights: Path = WEIGHTS) -> None:
        self.weights, self.folder = weights, folder
        self.digest = digest(*map(self._digest_of, (CHECKPOINT, VISION, JUDGES)))

    @cached_property
    def studio(self) -> Studio:
        return Studio.open(self.folder, self.weights)

    @cached_property
    def jury(self) -> Jury:
        return Jury.load(self.weights)

    def known(self, trial: Trial) -> Outcome | None:
        """The kept outcome of a trial, judged by the judges of today."""
        file = self._file(trial)
        if not file.is_file():
            return None
        kept = json.loads(file.read_text(encoding="utf-8"))
        moments = [
            Moment(**{**m, "scores": tuple(Scores(**s) for s in m["scores"])})
            for m in kept["moments"]
        ]
        grid = file.with_suffix(".png")
        if kept["judged_by"] != self._judges_of(trial.subject):
            moments = [
                replace(moment, scores=judged(self.jury, trial, pictures))
                for moment, pictures in zip(moments, read_grid(grid), strict=True)
            ]
            self._keep(trial, moments)
        return Outcome(tuple(moments), grid)

    def outcome(self, trial: Trial) -> Outcome:
        """The kept outcome, or that of a run now."""
        return self.known(trial) or self.run(trial)

    def run(self, trial: Trial) -> Outcome:
        """Learn, draw and judge; keep what came out."""
        subject, recipe = subject_named(trial.subject), RECIPES[trial.recipe]
        record = Record(self.studio, self.jury, trial)
        if recipe.encoder:
            self._encode(trial, subject, recipe, record)
        elif recipe.learns:
            self._learn(trial, subject, recipe, record)
        else:
            record.add(0, None, 0.0)
        grid = self._file(trial).with_suffix(".png")
        grid.parent.mkdir(parents=True, exist_ok=True)
        rows = [torch.cat(list(pictures), dim=1) for pictures in record.pictures]
        to_image(torch.cat(rows)).save(grid)
        self._keep(trial, record.moments)
        return Outcome(tuple(record.moments), grid)

    def _learn(self, trial: Trial, subject: Subject, recipe: Recipe, record: Record) -> None:
        config = self.studio.config(recipe, subject, dict(trial.changes))
        steps = {*trial.at, config.steps}
        watch = Stopwatch()

        def on_step(report: StepReport) -> None:
            if report.step not in steps:
                return
            with watch.paused(), report.backbone.paused():
                words = _word_figures(report)
                record.add(report.step, report.learner.to_concept(), watch.seconds, *words)

        self.studio.learn(config, subject.references.first(trial.shots), on_step)

    def _encode(self, trial: Trial, subject: Subject, recipe: Recipe, record: Record) -> None:
        watch, views = Stopwatch(), subject.references.first(trial.shots)
        concept = self.studio.encode(self.weights / recipe.encoder, subject, views)
        record.add(0, concept, watch.seconds)

    def _keep(self, trial: Trial, moments: Sequence[Moment]) -> None:
        file = self._file(trial)
        kept = {
            "trial": asdict(trial),
            "judged_by": self._judges_of(trial.subject),
            "moments": [asdict(moment) for moment in moments],
        }
        # the last thing to happen: where there is one, its pictures are there, too
        write_whole(json.dumps(kept, indent=1).encode(), file)

    def _file(self, trial: Trial) -> Path:
        recipe, subject = RECIPES[trial.recipe], subject_named(trial.subject)
        models = [VISION if recipe.takes_masks else "", recipe.encoder]
        decisive = [
            digest_of_drawing(self.weights / CHECKPOINT),
            *(self._digest_of(name) for name in models if name),
            digest_of_pictures(subject.references.pictures),
            asdict(trial),
            {k: v for k, v in asdict(recipe).items() if k != "title"},
            [prompt.about(recipe.name(subject)) for prompt in prompts_for(subject, trial.prompts)],
            DRAWING,
            *([] if wants_cpu() else [device_name()]),  # a GPU's numbers are not bit-equal
        ]
        return self.folder / f"{digest(json.dumps(decisive, sort_keys=True))[:16]}.json"

    def _digest_of(self, name: str) -> str:
        return digest_of_file(self.weights / name)

    def _judges_of(self, subject: str) -> str:
        pictures = subject_named(subject).witnesses
        asked = repr(prompts_for(subject_named(subject), MANY))
        return digest(self.digest, digest_of_pictures(pictures), asked)


@cache
def digest_of_file(file: Path) -> str:
    """Raises BadWeights when it is missing."""
    if not file.is_file():
        raise BadWeights(f"There is no {file}. See miniature/MODEL_CARD.md.")
    return hashlib.sha256(file.read_bytes()).hexdigest()


@cache
def digest_of_drawing(checkpoint: Path) -> str:
    """Of the tensors that decide what is drawn: not of those that compare text with pictures."""
    tensors = hashlib.sha256()
    with safe_open(checkpoint, "numpy") as file:
        for key in sorted(file.keys()):
            if not key.endswith(COMPARING):
                tensors.update(key.encode() + file.get_tensor(key).tobytes())
    return tensors.hexdigest()


def digest(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def digest_of_pictures(pictures: Tensor) -> str:
    return hashlib.sha256(pictures.mul(255).round().byte().numpy().tobytes()).hexdigest()


def read_grid(file: Path) -> list[Tensor]:
    """Rows of pictures, each (n, 128, 128, 3) in 0..1."""
    whole = torch.from_numpy(np.array(Image.open(file).convert("RGB"))).float() / 255
    return [torch.stack(row.split(SIZE, dim=1)) for row in whole.split(SIZE)]


def judged(jury: Jury, trial: Trial, pictures: Tensor) -> tuple[Scores, ...]:
    """Scores of a picture for each prompt, at 8 bit, as they are kept."""
    subject = subject_named(trial.subject)
    kept = pictures.clamp(0, 1).mul(255).round() / 255
    return tuple(
        jury.score(subject, prompt, picture[None])[0]
        for prompt, picture in zip(prompts_for(subject, trial.prompts), kept, strict=True)
    )


@dataclass
class Record:
    """Draws a trial's prompts, has them judged, and remembers the pictures."""

    studio: Studio
    jury: Jury
    trial: Trial

    def __post_init__(self) -> None:
        self.moments: list[Moment] = []
        self.pictures: list[Tensor] = []

    def add(
        self,
        step: int,
        concept: Any,
        seconds: float,
        norm: float | None = None,
        cosine: float | None = None,
    ) -> None:
        """Draw the prompts after a step and have them judged; None draws with the models alone."""
        subject = subject_named(self.trial.subject)
        recipe = RECIPES[self.trial.recipe]
        words, asked = recipe.name(subject), prompts_for(subject, self.trial.prompts)
        texts = [prompt.about(words) for prompt in asked]
        self.pictures.append(self.studio.draw(texts, concept, details=recipe.details))
        scores = judged(self.jury, self.trial, self.pictures[-1])
        self.moments.append(Moment(step, seconds, scores, norm, cosine))


def _word_figures(report: StepReport) -> tuple[float, float] | tuple[()]:
    """Mean norm of the learned words and mean cosine to E(v), for methods that learn words only."""
    from ..training.cross_init import encoded_words

    parameters = report.learner.parameters
    if set(parameters) != {"words"}:
        return ()
    with torch.no_grad():
        words = parameters["words"].detach()
        output = encoded_words(report.backbone.text, words)
        cosine = torch.nn.functional.cosine_similarity(words, output).mean().item()
        return words.norm(dim=1).mean().item(), cosine


def run_all(trials: Trials, wanted: Sequence[Trial], share: tuple[int, int] = (0, 1)) -> None:
    """Run what is not known yet, saying what came out and how long the rest may take.

    share: (k, n) runs every n-th trial from the k-th on, for n processes that share a folder
    """
    mine = list(dict.fromkeys(wanted))[share[0] :: share[1]]
    new = [trial for trial in mine if trials.known(trial) is None]
    print(f"{len(mine)} trials, {len(mine) - len(new)} of them known", flush=True)
    start = time.monotonic()
    for n, trial in enumerate(new, start=1):
        began = time.monotonic()
        mean = trials.run(trial).mean
        now = time.monotonic()
        left = (now - start) / n * (len(new) - n) / 60
        changes = "".join(f", {name} {value}" for name, value in trial.changes)
        print(
            f"[{n}/{len(new)}] {trial.subject}, {RECIPES[trial.recipe].title}{changes}, "
            f"{trial.shots} pictures: likeness {mean.likeness:.2f}, edits {mean.edits:.0%} "
            f"({now - began:.0f} s; about {left:.0f} min left)",
            flush=True,
        )
