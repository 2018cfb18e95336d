"""One HTML page with tables, plots and sheets; it opens from disk and loads nothing."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from functools import cache
from html import escape
from pathlib import Path
from statistics import mean, stdev

from ...concepts.disk import Stamp, stamp
from .data import SLOT, Subject
from .jobs import UNTOUCHED, Settings
from .plots import bars, colour_of, scatter
from .results import Result, score_names, write_text
from .uploads import as_image

THUMBNAIL_SIDE = 128
TEXT, CUT_OUT, _OVERALL = "CLIP-T", "CLIP-I(masked)", "overall"
IMAGE = (CUT_OUT, "CLIP-I(FG)", "DINO-I", "CLIP-I")
"""The scores of likeness, the most telling first: the plots show the first one that is there."""

MEANINGS = {
    TEXT: "follows the prompt",
    "CLIP-I": "like the references, by CLIP",
    "CLIP-I(FG)": "like the subject alone, by CLIP (DETEX)",
    CUT_OUT: "like the subject, both cut out, by CLIP (CatVersion)",
    _OVERALL: "geometric mean of CLIP-T and CLIP-I(masked), of their means",
    "DINO-I": "like the references, by DINO",
    "DINO-I(FG)": "like the subject alone, by DINO (DETEX)",
    "identity": "same individual, by a model of your choice",
}

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2733; max-width: 1240px; margin: 2em auto;
  padding: 0 1.5em; }
h1 { font-size: 1.7em; margin-bottom: 0; } h2 { margin-top: 2em; font-size: 1.25em; }
h3 { margin: 1.6em 0 .4em; font-size: 1.05em; }
p, .soft { color: #55616e; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3em .8em; border-bottom: 1px solid #e3e7eb; text-align: right;
  white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
td.best { font-weight: 700; background: #eaf4ec; }
.dot { display: inline-block; width: .7em; height: .7em; border-radius: 50%; margin-right: .5em; }
.plots { display: flex; flex-wrap: wrap; gap: 28px 40px; }
svg { font: 12px system-ui, sans-serif; fill: #55616e; max-width: 100%; height: auto; }
svg .title { font-weight: 600; }
.scroll { overflow-x: auto; }
.sheet td { border: 0; padding: 3px; vertical-align: top; text-align: left; }
.sheet th { border: 0; vertical-align: top; white-space: normal; font-weight: 500;
  font-size: .8em; text-align: left; max-width: 128px; padding: 3px; }
.sheet img { display: block; width: 128px; height: 128px; object-fit: cover; background: #f3f5f7; }
.sheet small { color: #55616e; font-size: .72em; }
.references img { height: 96px; margin-right: 6px; }
"""


def write_page(
    output: Path, results: Sequence[Result], subjects: Sequence[Subject], settings: Settings
) -> Path:
    """index.html in the folder of the results."""
    shown = [s for s in subjects if any(r.cell.subject == s.name for r in results)]
    parts = [_head(results, shown, settings)]
    if results:
        parts += [_main_table(results), _plots(results), _subject_tables(results, shown)]
        parts += ["<h2>Pictures</h2>", *(_sheet(output, results, s) for s in shown)]
    parts.append(_settings(settings))
    body = "\n".join(parts)
    title = "Benchmark of concepts"
    return write_text(
        output / "index.html",
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style></head>\n'
        f"<body>\n{body}\n</body></html>\n",
    )


def _head(results: Sequence[Result], subjects: Sequence[Subject], settings: Settings) -> str:
    pictures = sum(len(r.drawn.pictures) for r in results)
    told = (
        f"{pictures} pictures of {len(subjects)} subjects by {len(methods_of(results))} methods on "
        f"{settings.checkpoint}, scored by {settings.clip}"
        + "".join(f" and {name}" for name in (settings.second_clip, settings.dino) if name)
    )
    return f"<h1>Benchmark of concepts</h1>\n<p>{escape(told)}.</p>"


def _main_table(results: Sequence[Result]) -> str:
    """A row a method: means over all pictures, with the deviation between subjects and seeds."""
    methods, names = methods_of(results), score_names(results)
    best = {n: max(methods, key=lambda m, n=n: _score(_of(results, m), n) or -1.0) for n in names}
    rows = []
    for number, method in enumerate(methods):
        mine = _of(results, method)
        dot = f'<span class="dot" style="background:{colour_of(number)}"></span>{escape(method)}'
        cells = [f"<td>{dot}</td>", f"<td>{_training(mine)}</td>"]
        for name in names:
            mark = ' class="best"' if method == best[name] and len(methods) > 1 else ""
            cells.append(f"<td{mark}>{_number(_score(mine, name))}{_deviation(mine, name)}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>")
    heads = "".join(f'<th title="{escape(meaning_of(n))}">{escape(n)}</th>' for n in names)
    legend = "; ".join(f"<b>{escape(n)}</b>: {escape(meaning_of(n))}" for n in names)
    return (
        "<h2>Scores</h2>\n<div class='scroll'><table><tr><th>method</th><th>training</th>"
        f"{heads}</tr>{''.join(rows)}</table></div>\n<p>Means over all pictures, ± the standard "
        "deviation between what was learned (subject and seed); the best of a column is marked. "
        f"{UNTOUCHED} is the model without a concept, asked for the class word. {legend}.</p>"
    )


def meaning_of(name: str) -> str:
    """Of a score; a second CLIP's name stands in brackets behind it."""
    return MEANINGS.get(name, MEANINGS.get(name.partition(" (")[0], ""))


def _deviation(results: Sequence[Result], name: str) -> str:
    each = _of_each_cell(results, name)
    return f' <span class="soft">±{stdev(each):.3f}</span>' if len(each) > 1 else ""


def _training(results: Sequence[Result]) -> str:
    learned = {r.cell: r.learned for r in results if r.learned}
    if not learned:
        return "none"
    steps = sorted({about.steps for about in learned.values()})
    seconds = mean(about.seconds for about in learned.values())
    unit = "step" if steps == [1] else "steps"
    told = f"{' or '.join(map(str, steps))} {unit}, " if steps != [0] else ""
    return f"{told}{seconds:.3g} s"


def _plots(results: Sequence[Result]) -> str:
    methods, names = methods_of(results), score_names(results)
    likeness = next((name for name in IMAGE if name in names), None)
    drawn = []
    if likeness:
        drawn.append(_cloud(results, likeness))
    for name in names:
        groups = {m: _of_each_cell(_of(results, m), name) for m in methods}
        drawn.append(bars(name, {m: values for m, values in groups.items() if values}))
    seconds = {
        m: [r.learned.seconds for r in _of(results, m) if r.learned] or [0.0] for m in methods
    }
    drawn.append(bars("seconds to learn", seconds))
    return (
        f'<h2>Plots</h2>\n<div class="plots">{"".join(drawn)}</div>\n<p>Small dots and the ends of '
        "thin lines are single subjects and seeds. Up and to the right is better.</p>"
    )


def _cloud(results: Sequence[Result], likeness: str) -> str:
    """What was learned as dots: text alignment across, likeness up."""
    clouds: dict[str, list[tuple[float, float]]] = {m: [] for m in methods_of(results)}
    for cell in dict.fromkeys(r.cell for r in results):
        mine = [r for r in results if r.cell == cell]
        text, image = _score(mine, TEXT), _score(mine, likeness)
        if text is not None and image is not None:
            clouds[cell.method].append((text, image))
    return scatter(clouds, f"{TEXT}: follows the prompt", f"{likeness}: likeness")


def _subject_tables(results: Sequence[Result], subjects: Sequence[Subject]) -> str:
    """A table a score: a row a subject, a column a method."""
    methods = methods_of(results)
    heads = "".join(f"<th>{escape(m)}</th>" for m in methods)
    tables = []
    for name in score_names(results):
        rows = []
        for subject in subjects:
            mine = [r for r in results if r.cell.subject == subject.name]
            values = [_score(_of(mine, m), name) for m in methods]
            cells = "".join(f"<td>{_number(value)}</td>" for value in values)
            rows.append(f"<tr><td>{escape(subject.name)}</td>{cells}</tr>")
        tables.append(
            f"<div class='scroll'><h3>{escape(name)}</h3><table><tr><th>subject</th>{heads}</tr>"
            f"{''.join(rows)}</table></div>"
        )
    return f'<h2>By subject</h2>\n<div class="plots">{"".join(tables)}</div>'


def _sheet(output: Path, results: Sequence[Result], subject: Subject) -> str:
    """References, then a row a method and seed and a column a prompt, with the first picture."""
    mine = [r for r in results if r.cell.subject == subject.name]
    columns = sorted({(r.drawn.number, r.drawn.template) for r in mine})
    word = subject.class_word
    heads = "".join(f"<th>{escape(text.replace(SLOT, word))}</th>" for _, text in columns)
    rows = []
    for cell in dict.fromkeys(r.cell for r in mine):
        drawn = {r.drawn.number: r for r in mine if r.cell == cell}
        tiles = (_tile(output, drawn[n]) if n in drawn else "<td></td>" for n, _ in columns)
        name = f"{escape(cell.method)}<br><small>seed {cell.seed}</small>"
        rows.append(f"<tr><th>{name}</th>{''.join(tiles)}</tr>")
    references = "".join(
        f'<img alt="reference" src="{thumbnail(path)}">' for path in subject.pictures
    )
    return (
        f"<h3>{escape(subject.name)}, a {escape(subject.class_word)}</h3>"
        f'<div class="references">{references}</div><div class="scroll">'
        f'<table class="sheet"><tr><th></th>{heads}</tr>{"".join(rows)}</table></div>'
    )


def _tile(output: Path, result: Result) -> str:
    name = result.drawn.pictures[0]
    link = f"{result.cell.path}/{name}"
    told = "  ".join(f"{key} {value:.3f}" for key, value in result.drawn.scores[0].items())
    short = " / ".join(f"{value:.2f}" for value in list(result.drawn.scores[0].values())[:2])
    return (
        f'<td><a href="{escape(link)}"><img alt="{escape(result.drawn.template)}" '
        f'title="{escape(told)}" src="{thumbnail(output / link)}"></a><small>{short}</small></td>'
    )


def thumbnail(path: Path) -> str:
    """A picture as a small JPEG inside the page; of thousands, most are those of the last page."""
    return _thumbnail(path, stamp(path))


@cache
def _thumbnail(path: Path, _written: Stamp) -> str:
    picture = as_image(path)
    picture.thumbnail((2 * THUMBNAIL_SIDE, 2 * THUMBNAIL_SIDE))
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _settings(settings: Settings) -> str:
    rows = "".join(
        f"<tr><td>{escape(name.replace('_', ' '))}</td><td>{escape(str(value))}</td></tr>"
        for name, value in asdict(settings).items()
        if value not in ("", {})
    )
    return f"<h2>Settings</h2>\n<table>{rows}</table>"


def methods_of(results: Iterable[Result]) -> list[str]:
    return list(dict.fromkeys(r.cell.method for r in results))


def _of(results: Sequence[Result], method: str) -> list[Result]:
    return [r for r in results if r.cell.method == method]


def _values(results: Iterable[Result], name: str) -> list[float]:
    return [row[name] for r in results for row in r.drawn.scores if name in row]


def _of_each_cell(results: Sequence[Result], name: str) -> list[float]:
    """The score of each subject and seed that has it."""
    cells = dict.fromkeys(r.cell for r in results)
    each = (_score([r for r in results if r.cell == cell], name) for cell in cells)
    return [score for score in each if score is not None]


def _score(results: Sequence[Result], name: str) -> float | None:
    """The mean over all pictures, None if none has this score.

    The overall score is not the mean of the pictures' own, but that of the means of its two parts,
    as in the tables of CatVersion (Zhao et al. 2023).
    """
    base, bracket, clip = name.partition(" (")
    if base == _OVERALL:
        text, image = (_score(results, f"{part}{bracket}{clip}") for part in (TEXT, CUT_OUT))
        if text is None or image is None:
            return None
        return (max(text, 0.0) * max(image, 0.0)) ** 0.5
    values = _values(results, name)
    return mean(values) if values else None


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
