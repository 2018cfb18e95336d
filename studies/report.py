"""What a study found, as tables, sheets and curves, and docs/study.md around them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ..cli.comfyui import device_name
from ..miniature.files import WEIGHTS
from ..miniature.subjects import Jury, Scores, mean_scores, prompts_for
from . import claims, plans
from .anchors import anchors, sentence
from .claims import VARIANTS, Results, by_subject, curves_of, overall
from .curves import draw_panel
from .plans import BASELINES, Plan
from .recipes import DRAWING, RECIPES, Recipe
from .sheets import Row, draw_sheet
from .trials import Outcome, subject_named

# --- tables -----------------------------------------------------------------------------------


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return "*Not run yet.*"
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def methods_table(results: Results, plan: Plan, weights: Path = WEIGHTS) -> str:
    """A table for things with each number of pictures, and one for faces.

    weights: folder of the judges that say what other individuals reach
    """
    jury, parts = Jury.load(weights), []
    for kind in ("thing", "face"):
        for shots in plan.shots_of(kind):
            found = [
                _method_row(results, key, 0 if key in BASELINES else shots, kind) for key in RECIPES
            ]
            names = by_subject(results, "class", 0, kind) or by_subject(results, "ti", shots, kind)
            title = f"{len(names)} {kind}s, {counted(shots)} each"
            parts += [f"**{title}**", markdown(HEAD, [row for row in found if row])]
            if names:
                parts.append(sentence(anchors(jury, [subject_named(name) for name in names])))
    return "\n\n".join(parts)


def counted(pictures: int) -> str:
    return f"{pictures} picture{'s' if pictures > 1 else ''}"


HEAD = (
    "method",
    *("likeness", "on blank ground", "CLIP-I(FG)", "edits", "class", "CLIP-T"),
    *("likeness, 0 where the class is lost", "steps", "seconds"),
)


def _method_row(results: Results, key: str, shots: int, kind: str) -> list[str]:
    found = list(by_subject(results, key, shots, kind).values())
    if not found:
        return []
    seconds = sum(outcome.last.seconds for outcome in found) / len(found)
    learned = [str(found[0].last.step), f"{seconds:.1f}"] if RECIPES[key].learns else ["-", "-"]
    kept = sum(kept_likeness(outcome) for outcome in found) / len(found)
    return [RECIPES[key].title, *score_cells(mean_of(found)), f"{kept:.3f}", *learned]


def kept_likeness(outcome: Outcome) -> float:
    """Mean likeness, where a picture of another class than the subject's counts as none."""
    scores = outcome.last.scores
    return sum(score.likeness * score.kind for score in scores) / len(scores)


def mean_of(outcomes: Sequence[Outcome]) -> Scores:
    return mean_scores([outcome.mean for outcome in outcomes])


def score_cells(mean: Scores) -> list[str]:
    shares = [f"{mean.edits:.0%}", f"{mean.kind:.0%}"]
    return [
        *(f"{value:.3f}" for value in (mean.likeness, mean.likeness_fg, mean.clip_i_fg)),
        *shares,
        f"{mean.clip_t:.3f}",
    ]


def summary(outcomes: Sequence[Outcome]) -> list[str]:
    """Cells of the mean scores, and of the mean of the overall ones."""
    whole = sum(overall(outcome.mean) for outcome in outcomes) / len(outcomes)
    return [*score_cells(mean_of(outcomes)), f"{whole:.3f}"]


def margin_table(results: Results, plan: Plan) -> str:
    """Likeness of fast Cross Initialization and of the bare class word, subject by subject."""
    bare, learned = by_subject(results, "class"), by_subject(results, "ci-fast")
    pairs = {n: (bare[n].mean.likeness, learned[n].mean.likeness) for n in bare if n in learned}
    rows = [
        [f"{name}: {subject_named(name).described}", str(max(plan.shots_of(name))), *_margin(*pair)]
        for name, pair in pairs.items()
    ]
    if pairs:
        rows.append([f"**mean of {len(pairs)}**", "", *_margin(*_mean_pair(list(pairs.values())))])
    return markdown(("subject", "pictures", "class word", "concept", "margin"), rows)


def _margin(bare: float, learned: float) -> tuple[str, str, str]:
    return f"{bare:.3f}", f"{learned:.3f}", f"{learned - bare:+.3f}"


def _mean_pair(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    return sum(a for a, _ in pairs) / len(pairs), sum(b for _, b in pairs) / len(pairs)


def catversion_table(results: Results, plan: Plan) -> str:
    """CatVersion and Textual Inversion on each subject, and their means."""
    one, other = (by_subject(results, key) for key in ("catversion", "ti"))
    head = ("subject", "method", *HEAD[1:7], "overall")
    rows = []
    for name in (n for n in one if n in other):
        for key, outcome in (("ti", other[name]), ("catversion", one[name])):
            mean = outcome.mean
            rows.append([name, RECIPES[key].title, *score_cells(mean), f"{overall(mean):.3f}"])
    for key, found in (("ti", other), ("catversion", one)) if rows else ():
        rows.append(["**mean**", RECIPES[key].title, *summary(list(found.values()))])
    return markdown(head, rows)


def settings_table(results: Results, plan: Plan) -> str:
    """Means over the subjects that settings were compared on, one row a setting."""
    rows = []
    for key, changes in plans.TRIED:
        found = [results[trial] for trial in plans.tried(plan, key, changes) if trial in results]
        if found:
            settings = _pairs(RECIPES[key].settings | dict(changes))
            rows.append([RECIPES[key].title, settings, *summary(found)])
    return markdown(("method", "settings", *HEAD[1:7], "overall"), rows)


def layers_table(results: Results, plan: Plan) -> str:
    """Means over the subjects, one row a pair of layers."""
    places = layer_places(results)
    rows = [[title, *summary(list(found.values()))] for title, found in places.items()]
    return markdown(("residuals in", *HEAD[1:7], "overall"), rows)


def layer_places(results: Results) -> dict[str, dict[str, Outcome]]:
    """Outcomes by pair of layers, then by subject."""
    places: dict[str, dict[str, Outcome]] = {}
    for trial, outcome in results.items():
        last = dict(trial.changes).get("last_layer")
        if last:
            places.setdefault(f"layers {last - 1}-{last}", {})[trial.subject] = outcome
    return places


def curves_table(results: Results, plan: Plan) -> str:
    """Likeness, edits, norm and cosine of each variant at each moment, means over the faces."""
    rows = []
    for variant in VARIANTS:
        outcomes = list(curves_of(results, variant).values())
        for moments in zip(*(o.moments for o in outcomes), strict=True):
            mean = mean_scores([m.mean for m in moments])
            norm = sum(m.norm or 0.0 for m in moments) / len(moments)
            cosine = sum(m.cosine or 0.0 for m in moments) / len(moments)
            cells = (f"{mean.likeness:.3f}", f"{mean.edits:.0%}", f"{norm:.2f}", f"{cosine:.3f}")
            rows.append([variant.title, str(moments[0].step), *cells])
    return markdown(("variant", "steps", "likeness", "edits", "norm of v", "cos(v, E(v))"), rows)


def claims_table(results: Results, plan: Plan) -> str:
    return claims.table(results)


# --- pictures ---------------------------------------------------------------------------------

SHOWN = 8
"""Prompts on a sheet: more are too many to look at."""


def methods_rows(results: Results, plan: Plan, kind: str) -> list[Row]:
    """The first two subjects of a kind, a row a method, learned from the most pictures."""
    shots = max(plan.shots_of(kind))
    rows = []
    for name in shown_subjects(plan, kind):
        references = list(subject_named(name).references.first(shots).pictures)
        for key, recipe in RECIPES.items():
            found = by_subject(
                results, key, shots if recipe.learns and not recipe.encoder else None
            )
            if name in found:
                rows.append(sheet_row(recipe.title, found[name], references))
                references = ()
    return rows


def shown_subjects(plan: Plan, kind: str) -> list[str]:
    return [name for name in plan.subjects if name.startswith(kind)][:2]


def methods_sheet(rows: Sequence[Row], plan: Plan, kind: str) -> Image.Image:
    first, shots = subject_named(shown_subjects(plan, kind)[0]), max(plan.shots_of(kind))
    prompts = [p.about("...") for p in prompts_for(first, plan.prompts)[:SHOWN]]
    return draw_sheet(f"{kind}s learned from {counted(shots)}, ELITE from one", prompts, rows)


def sheet_row(title: str, outcome: Outcome, references: Sequence = ()) -> Row:
    captions = [f"like {s.likeness:.2f} edits {s.edits:.0%}" for s in outcome.last.scores[:SHOWN]]
    return Row(title, list(outcome.pictures()[:SHOWN]), captions, references)


def layers_shown(results: Results) -> list[str]:
    """The first two things that were run with residuals in every pair of layers."""
    places = list(layer_places(results).values())
    things = [name for name in (places[0] if places else ()) if name.startswith("thing")]
    return [name for name in things if all(name in found for found in places)][:2]


def layers_sheet(results: Results, plan: Plan, names: Sequence[str]) -> Image.Image:
    """A row for each pair of layers, for each of these things."""
    places, rows = layer_places(results), []
    for name in names:
        references = list(subject_named(name).references.first(max(plan.shots)).pictures)
        for title, found in places.items():
            rows.append(sheet_row(f"{name}, {title}", found[name], references))
            references = ()
    prompts = [p.about("...") for p in prompts_for(subject_named(names[0]), plan.layer_prompts)]
    return draw_sheet("Residual keys and values in two text layers (Figure 4)", prompts, rows)


def curves_picture(results: Results, plan: Plan) -> Image.Image:
    """Four panels over steps: likeness, edits, norm and cosine of the learned words."""
    values: dict[str, Callable] = {
        "likeness": lambda m: m.mean.likeness,
        "edits": lambda m: m.mean.edits,
        "norm of the words v": lambda m: m.norm,
        "cosine of v and E(v)": lambda m: m.cosine,
    }
    panels = []
    for title, value in values.items():
        lines = {}
        for variant in VARIANTS:
            outcomes = list(curves_of(results, variant).values())
            if outcomes:
                lines[variant.title] = [
                    (moments[0].step, sum(map(value, moments)) / len(moments))
                    for moments in zip(*(o.moments for o in outcomes), strict=True)
                ]
        panels.append(draw_panel(title, lines))
    width, height = panels[0].size
    picture = Image.new("RGB", (2 * width, 2 * height), "white")
    for n, panel in enumerate(panels):
        picture.paste(panel, (n % 2 * width, n // 2 * height))
    return picture


def pictures_of(results: Results, plan: Plan) -> dict[str, Image.Image]:
    """Every sheet whose trials were run, by name."""
    made = {}
    for kind in ("thing", "face"):
        if rows := methods_rows(results, plan, kind):
            made[f"{kind}s"] = methods_sheet(rows, plan, kind)
    if names := layers_shown(results):
        made["layers"] = layers_sheet(results, plan, names)
    if any(curves_of(results, variant) for variant in VARIANTS):
        made["curves"] = curves_picture(results, plan)
    return made


# --- the report -------------------------------------------------------------------------------

REPORT = """\
# The study on the miniature

`make study` ran every method of the pack on the miniature Stable Diffusion of this repository
(weights `{digest}`) on {device}, and wrote this page; nothing in it was typed in. {things} things
and {faces} faces that no training has shown, {prompts} prompts each, one picture a prompt,
{steps} steps, guidance {guidance}. They are numbers {first} and up; settings were chosen on
{tried_on}.{unfinished}

- **likeness**: the instance judge's cosine to eight other views of the individual, -1 to 1; on
  blank ground: to the same views without their surroundings
- **edits**: the share of what a prompt asks for that the attribute judge sees; **class**: how often
  it sees the right class
- **CLIP-T**, **CLIP-I(FG)**: by the miniature's own pair
- *class word* and *described in words* learn nothing: they are what prompts alone can do, and the
  second is the bar for whoever can describe the individual in the words of this world
- likeness alone flatters what has only the right colours: so one column counts a picture of another
  class as no likeness, and below each table stands what other individuals reach
- **seconds** of one processor core for learning; the first time that Custom Diffusion learns a
  class they include its {prior} class pictures, which later trainings share

## All methods

{methods_table}

Settings: {settings}.

{things_picture}

{faces_picture}

## Nearer than the class word

`python tools/run.py study margin`: likeness of pictures of the concept and of the bare class word.

{margin_table}

## CatVersion against Textual Inversion at equal steps

`python tools/run.py study catversion`: {shots} pictures of each individual, faces too; overall is
the geometric mean of edits and likeness on blank ground.

{catversion_table}

## Where residuals belong (Figure 4 of CatVersion)

`python tools/run.py study layers`.

{layers_table}

{layers_picture}

## Quality over steps (Figures 2, 8 and 11 of Cross Initialization)

`python tools/run.py study curves`: from one picture of a face, means over {curve_faces} faces and
{curve_prompts} prompts; two words, batch 4, learning rate 0.01 for Textual Inversion and 0.08 for
Cross Initialization, the best of those tried.

{curves_picture}

{curves_table}

## What the papers claim

`python tools/run.py study claims`. Differences are paired: same individual, prompts and noise. A
claim *holds* or *does not hold* when the mean difference lies at least two standard errors from 0,
on its side or on the other; there is *no difference beyond 0.05* when all within two standard
errors is smaller; else it *cannot be seen here*. Where things and faces are decided against one
another, each is told. {decided}

{claims_table}
"""


def write_report(
    results: Results, plan: Plan, digest: str, folder: Path, weights: Path = WEIGHTS
) -> Path:
    """Write study.md and its pictures into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = pictures_of(results, plan)
    for name, picture in pictures.items():
        picture.save(folder / f"study-{name}.webp", quality=80, method=6)
    links = {
        f"{name}_picture": f"![{name}](study-{name}.webp)" if name in pictures else ""
        for name in ("things", "faces", "layers", "curves")
    }
    text = REPORT.format(
        digest=digest[:12],
        device=device_name(),
        things=len(by_subject(results, "class", kind="thing")),
        faces=len(by_subject(results, "class", kind="face")),
        prompts=plan.prompts,
        shots=max(plan.shots),
        steps=DRAWING["steps"],
        prior=RECIPES["custom"].settings["prior_count"],
        guidance=DRAWING["cfg"],
        settings="; ".join(_settings(recipe) for recipe in RECIPES.values() if recipe.settings),
        curve_faces=len(curves_of(results, claims.TI)),
        curve_prompts=plan.curve_prompts,
        methods_table=methods_table(results, plan, weights),
        margin_table=margin_table(results, plan),
        catversion_table=catversion_table(results, plan),
        layers_table=layers_table(results, plan),
        curves_table=curves_table(results, plan),
        claims_table=claims_table(results, plan),
        decided=claims.decided(results),
        first=plan.first,
        unfinished=unfinished(results, plan),
        tried_on=", ".join(plan.tried_on),
        **links,
    )
    file = folder / "study.md"
    file.write_text(text, encoding="utf-8")
    return file


def unfinished(results: Results, plan: Plan) -> str:
    """A sentence where some individuals of the plan were not reached."""
    met = by_subject(results, "class")
    if len(met) >= plan.things + plan.faces:
        return ""
    return (
        f" **The study goes on**: {plan.things} things and {plan.faces} faces are planned, and the "
        "same command learns the rest."
    )


def _settings(recipe: Recipe) -> str:
    return f"{recipe.title}: {_pairs(recipe.settings)}"


def _pairs(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items())
