"""What the papers claim, and what a study on the miniature says to it: computed, never typed in."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from ..miniature.subjects import Scores
from .trials import Moment, Outcome, Trial

Results = Mapping[Trial, Outcome]
Score = Callable[[Scores], float]


SMALL = 0.05
"""A difference of scores that nobody would see in pictures."""


class Verdict(str, Enum):
    HOLDS = "holds"
    FAILS = "does not hold"
    SAME = f"no difference beyond {SMALL}"
    UNSEEN = "cannot be seen here"


Differences = Mapping[str, float]  # by subject


@dataclass(frozen=True)
class Claim:
    """A sentence of a paper as differences, one a subject: it holds where they are positive.

    differences: from a study's results; none when what it needs was not run
    why: why the miniature may show it, or why it may not
    small: what counts as no difference; None where the measure is not a score
    """

    paper: str
    says: str
    measured: str
    differences: Callable[[Results], Differences]
    why: str
    small: float | None = SMALL


@dataclass(frozen=True)
class Mean:
    """Mean of paired differences and its standard error over `count` subjects, and what it says."""

    verdict: Verdict
    mean: float
    error: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float], small: float | None = SMALL) -> Mean:
        """Holds or not when the mean lies two standard errors from 0; no difference when all that
        lies within two standard errors is small; else it cannot be seen.
        """
        count = len(values)
        if count < 2:
            return cls(Verdict.UNSEEN, math.nan, math.nan, count)
        mean = sum(values) / count
        error = math.sqrt(sum((v - mean) ** 2 for v in values) / (count - 1) / count)
        if abs(mean) >= 2 * error and mean != 0:
            verdict = Verdict.HOLDS if mean > 0 else Verdict.FAILS
        elif small is not None and error > 0 and abs(mean) + 2 * error <= small:
            verdict = Verdict.SAME
        else:
            verdict = Verdict.UNSEEN
        return cls(verdict, mean, error, count)

    def __str__(self) -> str:
        if self.count < 2:
            return "one subject" if self.count else "not run"
        return f"{self.mean:+.3f} ± {self.error:.3f} ({self.count})"


@dataclass(frozen=True)
class Finding:
    """What a study says to a claim, over all subjects and over things and faces apart."""

    claim: Claim
    whole: Mean
    things: Mean
    faces: Mean

    @property
    def apart(self) -> bool:
        """Whether it holds for one kind of subject and not for the other: their mean means nothing
        then.
        """
        return {self.things.verdict, self.faces.verdict} == {Verdict.HOLDS, Verdict.FAILS}

    @property
    def decided(self) -> bool:
        return self.apart or self.whole.verdict is not Verdict.UNSEEN

    @property
    def verdict(self) -> str:
        if not self.apart:
            return self.whole.verdict.value
        return f"things: {self.things.verdict.value}; faces: {self.faces.verdict.value}"


def judge(claim: Claim, results: Results) -> Finding:
    found = claim.differences(results)
    kinds = [[v for name, v in found.items() if name.startswith(k)] for k in ("thing", "face")]
    return Finding(claim, *(Mean.of(v, claim.small) for v in ([*found.values()], *kinds)))


# --- scores -----------------------------------------------------------------------------------


def likeness(scores: Scores) -> float:
    return scores.likeness


def likeness_fg(scores: Scores) -> float:
    return scores.likeness_fg


def clip_i_fg(scores: Scores) -> float:
    return scores.clip_i_fg


def edits(scores: Scores) -> float:
    return scores.edits


def clip_t(scores: Scores) -> float:
    return scores.clip_t


def overall(scores: Scores) -> float:
    """Geometric mean of edits and foreground likeness, as CatVersion's of its two alignments."""
    return math.sqrt(max(scores.likeness_fg, 0.0) * scores.edits)


# --- differences ------------------------------------------------------------------------------


def between(
    score: Score, better: str, worse: str, shots: int | None = None, kind: str = ""
) -> Callable[[Results], Differences]:
    """Score of one recipe less that of another, for each subject that both were run on."""

    def differences(results: Results) -> Differences:
        one, other = (by_subject(results, key, shots, kind) for key in (better, worse))
        return {s: score(one[s].mean) - score(other[s].mean) for s in one if s in other}

    return differences


def by_subject(
    results: Results, recipe: str, shots: int | None = None, kind: str = ""
) -> dict[str, Outcome]:
    """Outcomes of a recipe as it is, by subject.

    shots: how many pictures were learned from, None for the most
    kind: "face" or "thing" for some of the subjects
    """
    found: dict[str, Outcome] = {}
    for trial, outcome in sorted(results.items(), key=lambda item: item[0].shots):
        as_it_is = not trial.at and all(name == "steps" for name, _ in trial.changes)
        asked = trial.recipe == recipe and trial.subject.startswith(kind)
        if asked and as_it_is and shots in (None, trial.shots):
            found[trial.subject] = outcome
    return found


@dataclass(frozen=True)
class Variant:
    """A line of the curves: a recipe with some settings."""

    title: str
    recipe: str
    changes: tuple[tuple[str, object], ...] = ()


_TI_RATE, _CI_RATE = ("learning_rate", 0.01), ("learning_rate", 0.08)
TI = Variant("Textual Inversion", "ti", (_TI_RATE, ("vectors", 2)))
CI = Variant("Cross Initialization", "ci", (_CI_RATE,))
CI_CLASS = Variant("... from the class word", "ci", (_CI_RATE, ("init_from", "class word")))
CI_FREE = Variant("... no regulariser", "ci", (_CI_RATE, ("reg_weight", 0.0)))
CI_FIRM = Variant("... regulariser x 1000", "ci", (_CI_RATE, ("reg_weight", 1e-2)))
VARIANTS = (TI, CI, CI_CLASS, CI_FREE, CI_FIRM)
"""Equal steps and batch, each method at the rate that suits its words: those of Cross
Initialization are as long as outputs of the text encoder, many times longer than rows of the
vocabulary, so that one rate cannot suit both.
"""


def curves_of(results: Results, variant: Variant) -> dict[str, Outcome]:
    """Outcomes with several moments, by subject."""
    wanted = set(variant.changes)
    return {
        trial.subject: outcome
        for trial, outcome in results.items()
        if trial.at
        and trial.recipe == variant.recipe
        and {c for c in trial.changes if c[0] != "steps"} == wanted
    }


def at_the_end(
    value: Callable[[Outcome], float], better: Variant, worse: Variant
) -> Callable[[Results], Differences]:
    """A number of one variant's curve less that of another's, for each face."""

    def differences(results: Results) -> Differences:
        one, other = curves_of(results, better), curves_of(results, worse)
        return {s: value(one[s]) - value(other[s]) for s in one if s in other}

    return differences


def sooner(results: Results) -> Differences:
    """Likeness of Cross Initialization half-way less that of Textual Inversion at the end, each at
    its own rate.
    """
    one, other = curves_of(results, CI), curves_of(results, TI)
    return {s: halfway(one[s]).mean.likeness - other[s].mean.likeness for s in one if s in other}


def halfway(outcome: Outcome) -> Moment:
    """The last moment in the first half of the steps."""
    early = [m for m in outcome.moments if 2 * m.step <= outcome.last.step]
    return early[-1] if early else outcome.moments[0]


def growth(outcome: Outcome) -> float:
    """How often the words' norm doubled from the first moment to the last."""
    first, last = outcome.moments[0].norm, outcome.last.norm
    assert first is not None and last is not None
    return math.log2(last / first)


def closeness(outcome: Outcome) -> float:
    assert outcome.last.cosine is not None
    return outcome.last.cosine


def last_layers_against_others(results: Results) -> Differences:
    """Overall score with residuals in the last two layers less the mean of the other places."""
    places: dict[str, dict[int, float]] = {}
    for trial, outcome in results.items():
        changed = dict(trial.changes)
        if "last_layer" in changed:
            found = places.setdefault(trial.subject, {})
            found[changed["last_layer"]] = overall(outcome.mean)
    values = {}
    for subject, found in places.items():
        last = max(found)
        others = [value for layer, value in found.items() if layer != last]
        if others:
            values[subject] = found[last] - sum(others) / len(others)
    return values


# --- the claims -------------------------------------------------------------------------------

_PANG, _ZHAO = "Cross Initialization (Pang 2024)", "CatVersion (Zhao 2023)"
_CAI, _WEI = "DETEX (Cai 2024)", "ELITE (Wei 2023)"
_FEW_STEPS = (
    "Both learn with the same steps and batch, each at its own rate; the paper gave Textual "
    "Inversion its 5000."
)
_DRIFT = "A property of the embeddings, not of the pictures, so a small text encoder shows it too."
_JUDGES = "The judges know individuals and factors of this world; the paper measured with CLIP."

CLAIMS = (
    Claim(
        _PANG,
        "nearer to the face than Textual Inversion (identity .2517 against .2115)",
        "likeness, faces, 1 picture",
        between(likeness, "ci", "ti", 1, "face"),
        _FEW_STEPS,
    ),
    Claim(
        _PANG,
        "follows prompts better than Textual Inversion (.2859 against .2498)",
        "edits, faces, 1 picture",
        between(edits, "ci", "ti", 1, "face"),
        _FEW_STEPS,
    ),
    Claim(
        _PANG,
        "the fast version is still nearer than Textual Inversion (.2225 against .2115)",
        "likeness, faces, 1 picture",
        between(likeness, "ci-fast", "ti", 1, "face"),
        "25 steps against the steps of the table above.",
    ),
    Claim(
        _PANG,
        "needs fewer steps than Textual Inversion (346 s against 6331 s)",
        "likeness half-way, less Textual Inversion's at the end",
        sooner,
        "The curves: same batch, each at its own rate. The words of Cross Initialization are many "
        "times longer than rows of the vocabulary, so that the same rate moves them less.",
    ),
    Claim(
        _PANG,
        "Textual Inversion's words grow, those of Cross Initialization do not (Fig. 2)",
        "doublings of the norm, Textual Inversion less Cross Initialization",
        at_the_end(growth, TI, CI),
        _DRIFT,
        small=None,
    ),
    Claim(
        _PANG,
        "its words stay like the text encoder's output (Fig. 8)",
        "cosine of v and E(v) at the end, less Textual Inversion's",
        at_the_end(closeness, CI, TI),
        _DRIFT,
    ),
    Claim(
        _PANG,
        "starting from the mean name keeps faces easy to edit (Fig. 11)",
        "edits at the end, mean name less class word",
        at_the_end(lambda o: o.mean.edits, CI, CI_CLASS),
        "264 names are people of this world, so their mean is a face here as it is in Stable "
        "Diffusion.",
    ),
    Claim(
        _PANG,
        "the regulariser keeps faces easy to edit (Fig. 11)",
        "edits at the end, with less without",
        at_the_end(lambda o: o.mean.edits, CI, CI_FREE),
        "At 1e-5 its gradient is small beside that of the loss, whose scale is that of the "
        "miniature; the curves show a firmer one, too.",
    ),
    Claim(
        _ZHAO,
        "pictures are nearer to the subject than Textual Inversion's (.8048 against .7831)",
        "likeness to blank-ground views, most pictures",
        between(likeness_fg, "catversion", "ti"),
        "Equal steps and batch. " + _JUDGES,
    ),
    Claim(
        _ZHAO,
        "follows prompts better than Textual Inversion (.2514 against .2213)",
        "edits",
        between(edits, "catversion", "ti"),
        "Equal steps and batch. " + _JUDGES,
    ),
    Claim(
        _ZHAO,
        "is better overall (.4498 against .4163)",
        "geometric mean of edits and blank-ground likeness",
        between(overall, "catversion", "ti"),
        "Equal steps and batch. " + _JUDGES,
    ),
    Claim(
        _ZHAO,
        "the last text layers are the place for residuals (Fig. 4)",
        "overall, layers 7-8 less the mean of 1-2, 3-4, 5-6",
        last_layers_against_others,
        "This text encoder has 8 layers and a small vocabulary: its early layers have less to "
        "disentangle than CLIP's twelve.",
    ),
    Claim(
        _CAI,
        "follows prompts better than Custom Diffusion (CLIP-T .3249 against .3143)",
        "CLIP-T",
        between(clip_t, "detex", "custom"),
        _JUDGES,
    ),
    Claim(
        _CAI,
        "nearer to the subject's foreground (DINO-I .6121 against .5970)",
        "likeness to blank-ground views",
        between(likeness_fg, "detex", "custom"),
        _JUDGES,
    ),
    Claim(
        _CAI,
        "nearer to the subject's foreground (CLIP-I .7688 against .7553)",
        "CLIP-I(FG)",
        between(clip_i_fg, "detex", "custom"),
        "The miniature's CLIP sees places before subjects, and no blank ground in training but the "
        "studio.",
    ),
    Claim(
        _WEI,
        "nearer to the subject than Textual Inversion (CLIP-I .762 against .663)",
        "likeness, 1 picture",
        between(likeness, "elite", "ti", 1),
        _JUDGES,
    ),
    Claim(
        _WEI,
        "follows prompts better than Textual Inversion (CLIP-T .255 against .183)",
        "CLIP-T, 1 picture",
        between(clip_t, "elite", "ti", 1),
        _JUDGES,
    ),
    Claim(
        _WEI,
        "further from the subject than Custom Diffusion (CLIP-I .762 against .801)",
        "likeness, Custom Diffusion less ELITE, 1 picture",
        between(likeness, "custom", "elite", 1),
        _JUDGES,
    ),
    Claim(
        _WEI,
        "the primary word alone is easier to edit than all five (CLIP-T .257 against .204)",
        "CLIP-T, 1 picture",
        between(clip_t, "elite-word", "elite-five", 1),
        "Both without details and without a class word; docs/train-elite.md has more.",
    ),
)


def table(results: Results) -> str:
    """All claims with their verdicts, in Markdown."""
    lines = [
        "| paper | says | measured here | difference ± standard error (subjects) | things | faces "
        "| verdict | why |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for claim in CLAIMS:
        found = judge(claim, results)
        numbers = (str(found.whole), str(found.things), str(found.faces))
        cells = (claim.paper, claim.says, claim.measured, *numbers, found.verdict, claim.why)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def decided(results: Results) -> str:
    count = sum(judge(claim, results).decided for claim in CLAIMS)
    return f"{count} of {len(CLAIMS)} are decided."
