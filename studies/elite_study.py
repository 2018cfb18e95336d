"""What an ELITE encoder of the miniature can do, measured on individuals that nobody has seen.

    python tools/run.py elite_study table ENCODER       the paper's ablations: words and details
    python tools/run.py elite_study sweep ENCODER       its figure 7: strengths of the details
    python tools/run.py elite_study pictures ENCODER    several pictures: ways to combine them

ENCODER is a .safetensors of Save ELITE Encoder or of the training. Each individual is encoded once,
without training, and drawn from the same prompts and the same noise in every way; the miniature's
judges score the pictures. --sheet FILE draws some of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

from ..cli.comfyui import OnCpu, prepare_host
from .means import standard_error
from .recipes import FIVE_WORDS, PLACEHOLDER
from .sheets import to_image

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from ..concepts.concept import Concept
    from ..concepts.elite import EliteEncoder
    from ..miniature.subjects import Jury, Prompt, Scores, Subject
    from .miniature_models import Miniature

EDIT, GENERATE = 0.6, 0.8  # lambda of the paper
LAMBDAS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2)
SHOWN = 6  # individuals on a sheet


@dataclass(frozen=True)
class Way:
    """One way to draw a subject. concept: None for the model without one"""

    concept: Concept | None
    words: str
    details: float = 0.0


@dataclass(frozen=True)
class Drawn:
    """A subject's pictures (prompts, height, width, 3) and their scores, by the name of the way."""

    subject: Subject
    pictures: Mapping[str, Tensor]
    scores: Mapping[str, Sequence[Scores]]


Ways = dict[str, Way]
WaysOf = Callable[["EliteEncoder", "Miniature", "Subject"], Ways]
CLASS, GLOBAL, BOTH, EDITED, NAMED, NAMED_BOTH, ALL_WORDS = (
    "class word",
    "primary word",
    f"primary word, details {GENERATE}",
    f"primary word, details {EDIT}",
    "primary word and class word",
    f"primary word and class word, details {GENERATE}",
    "all five words",
)


# --- what is compared -------------------------------------------------------------------------


def ablation(encoder: EliteEncoder, models: Miniature, subject: Subject) -> Ways:
    concept = encoded(encoder, models, subject)
    named = f"{PLACEHOLDER} {subject.class_word}"
    details = {
        EDITED: Way(concept, PLACEHOLDER, EDIT),
        BOTH: Way(concept, PLACEHOLDER, GENERATE),
        NAMED_BOTH: Way(concept, named, GENERATE),
    }
    return {
        CLASS: Way(None, subject.class_word),
        GLOBAL: Way(concept, PLACEHOLDER),
        NAMED: Way(concept, named),
        **(details if encoder.local_stage else {}),
        ALL_WORDS: Way(concept, FIVE_WORDS),
    }


def lambdas(encoder: EliteEncoder, models: Miniature, subject: Subject) -> Ways:
    concept = encoded(encoder, models, subject)
    return {f"details {value}": Way(concept, PLACEHOLDER, value) for value in LAMBDAS}


def combinations(encoder: EliteEncoder, models: Miniature, subject: Subject) -> Ways:
    """Each picture is encoded alone; words, and details where the encoder has some, are combined
    in every way."""
    import torch

    alone = [encoded(encoder, models, subject, n) for n in range(len(subject.references))]
    first = alone[0]
    words = {
        "of the first": first.words,
        "mean": {k: torch.stack([c.words[k] for c in alone]).mean(0) for k in first.words},
    }
    if encoder.local_stage is None:
        return {f"words {a}": Way(replace(first, words=w), PLACEHOLDER) for a, w in words.items()}
    local = [concept.tensors["local"] for concept in alone]
    details = {
        "of the first": local[0],
        "mean": torch.stack(local).mean(0),
        "of all, side by side": torch.cat(local),
    }
    return {
        f"words {a}, details {b}": Way(
            replace(first, words=w, tensors={"local": d}), PLACEHOLDER, GENERATE
        )
        for a, w in words.items()
        for b, d in details.items()
    }


STUDIES: dict[str, WaysOf] = {"table": ablation, "sweep": lambdas, "pictures": combinations}


def encoded(
    encoder: EliteEncoder, models: Miniature, subject: Subject, picture: int = 0
) -> Concept:
    from ..training.elite.encoding import encode_elite

    one, seen = slice(picture, picture + 1), subject.references
    return encode_elite(
        encoder,
        models.vision,
        seen.pictures[one],
        seen.masks[one],
        placeholder=PLACEHOLDER,
        class_word=subject.class_word,
    )


# --- drawing and judging ----------------------------------------------------------------------


def subjects(count: int) -> list[Subject]:
    """Three things, then a face, and so on."""
    from ..miniature.subjects import face, thing

    numbers = range(count)
    return [face(n // 4) if n % 4 == 3 else thing(n - n // 4) for n in numbers]


def draw(
    models: Miniature, jury: Jury, subject: Subject, ways: Ways, prompts: Sequence[Prompt]
) -> Drawn:
    """All pictures of a subject; picture n of every way starts from the same noise."""
    pictures = {name: pictures_of(models, way, prompts) for name, way in ways.items()}
    scores = {
        name: [jury.score(subject, p, x[None])[0] for p, x in zip(prompts, drawn, strict=True)]
        for name, drawn in pictures.items()
    }
    return Drawn(subject, pictures, scores)


def pictures_of(models: Miniature, way: Way, prompts: Sequence[Prompt]) -> Tensor:
    """(prompts, height, width, 3), prompt n from seed n."""
    from ..host.sampling import texts_to_images
    from ..samplers.apply import apply_concept
    from ..samplers.local_attention import Details
    from .miniature_models import GUIDANCE, SIZE, STEPS

    model, clip = models.model, models.clip
    if way.concept is not None:
        model, clip = apply_concept(model, clip, way.concept, 1.0, details=Details(way.details))
    texts = [prompt.about(way.words) for prompt in prompts]
    return texts_to_images(model, clip, models.vae, texts, SIZE, steps=STEPS, cfg=GUIDANCE)


def study(
    what: str, encoder: EliteEncoder, models: Miniature, jury: Jury, count: int, prompts: int
) -> Iterator[Drawn]:
    """One subject after the other, so that a run can be watched."""
    from ..miniature.subjects import prompts_for

    for subject in subjects(count):
        ways = STUDIES[what](encoder, models, subject)
        yield draw(models, jury, subject, ways, prompts_for(subject, prompts))


# --- report -----------------------------------------------------------------------------------

COLUMNS = {
    "likeness": "likeness",
    "likeness, subject alone": "likeness_fg",
    "CLIP-I, subject alone": "clip_i_fg",
    "CLIP-T": "clip_t",
    "edits kept": "edits",
    "class kept": "kind",
}


def of_subject(drawn: Drawn, way: str, column: str) -> float:
    return mean(getattr(scores, column) for scores in drawn.scores[way])


def table(results: Sequence[Drawn]) -> list[str]:
    """Means over the subjects, with the standard error of the likeness."""
    lines = ["| way | " + " | ".join(COLUMNS) + " |", "|---" * (1 + len(COLUMNS)) + "|"]
    for way in results[0].pictures:
        cells = []
        for column in COLUMNS.values():
            values = [of_subject(drawn, way, column) for drawn in results]
            error = f" ± {standard_error(values):.3f}" if column == "likeness" else ""
            cells.append(f"{mean(values):.3f}{error}")
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    return lines


def comparison(results: Sequence[Drawn], better: str, worse: str, column: str) -> str:
    """How much one way is above another, subject by subject."""
    gains = [of_subject(d, better, column) - of_subject(d, worse, column) for d in results]
    above = sum(gain > 0 for gain in gains)
    title = next(title for title, name in COLUMNS.items() if name == column)
    return (
        f"{title}: '{better}' minus '{worse}' is {mean(gains):+.3f} ± "
        f"{standard_error(gains):.3f}, above in {above} of {len(gains)}"
    )


CLAIMS = (
    (GLOBAL, CLASS, "likeness"),
    (BOTH, GLOBAL, "likeness"),
    (EDITED, BOTH, "edits"),
    (EDITED, CLASS, "edits"),
    (ALL_WORDS, GLOBAL, "likeness"),
    (ALL_WORDS, GLOBAL, "edits"),
    (ALL_WORDS, GLOBAL, "clip_t"),
    (NAMED_BOTH, BOTH, "kind"),
    (NAMED_BOTH, BOTH, "likeness"),
)
"""Of the table: details add to the likeness; what was asked is kept; five words trade edits for
likeness; the class word beside the primary one keeps the class, and costs likeness."""


def report(what: str, encoder: EliteEncoder, results: Sequence[Drawn]) -> str:
    from .miniature_models import GUIDANCE, STEPS

    prompts = len(next(iter(results[0].scores.values())))
    lines = [
        f"{what}: encoder {encoder.name} ({encoder.digest[:12]}), {len(results)} individuals, "
        f"{prompts} prompts each, {STEPS} steps, guidance {GUIDANCE}",
        "",
        *table(results),
    ]
    if what == "table":
        drawn = [claim for claim in CLAIMS if set(claim[:2]) <= set(results[0].pictures)]
        lines += ["", *(f"- {comparison(results, *claim)}" for claim in drawn)]
    return "\n".join(lines)


def sheet(results: Sequence[Drawn]) -> Image.Image:
    """A row a subject: the picture that was encoded, then each way, another prompt in each row."""
    from PIL import Image, ImageDraw, ImageFont

    from .miniature_models import SIZE

    shown = results[:SHOWN]
    ways = list(shown[0].pictures)
    gap, head, foot = 4, 48, 18
    size = ((1 + len(ways)) * (SIZE + gap), head + len(shown) * (SIZE + foot))
    canvas = Image.new("RGB", size, "white")
    pen, font = ImageDraw.Draw(canvas), ImageFont.load_default(11)
    for column, title in enumerate(["encoded picture", *ways]):
        pen.text((column * (SIZE + gap), 2), _wrapped(title), "black", font)
    for row, drawn in enumerate(shown):
        which = row % len(drawn.pictures[ways[0]])
        top = head + row * (SIZE + foot)
        pictures = [drawn.subject.references.pictures[0]]
        pictures += [drawn.pictures[way][which] for way in ways]
        for column, picture in enumerate(pictures):
            canvas.paste(to_image(picture), (column * (SIZE + gap), top))
        text = _prompt_of(drawn, which)
        pen.text((0, top + SIZE + 2), text, "black", font)
    return canvas


def _prompt_of(drawn: Drawn, which: int) -> str:
    from ..miniature.subjects import prompts_for

    return prompts_for(drawn.subject)[which].about(f"[{drawn.subject.class_word}]")


def _wrapped(title: str) -> str:
    return title.replace(", ", ",\n").replace(" and ", "\nand ")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="elite_study", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=STUDIES)
    parser.add_argument("encoder", type=Path)
    parser.add_argument("--subjects", type=int, default=20)
    parser.add_argument("--prompts", type=int, default=5, help="of each subject, 10 at most")
    parser.add_argument("--weights", type=Path, help="folder of the miniature's files")
    parser.add_argument("--sheet", type=Path, help="a picture file to draw")
    parser.add_argument("--cpu", action=OnCpu)
    options = parser.parse_args(arguments)
    prepare_host()
    from ..concepts.elite_files import load_encoder
    from ..miniature.files import WEIGHTS
    from ..miniature.subjects import Jury
    from .miniature_models import load_miniature

    weights = options.weights or WEIGHTS
    encoder, models = load_encoder(options.encoder), load_miniature(weights)
    if options.what == "sweep" and encoder.local_stage is None:
        print(f"{options.encoder} has no local stage, so there are no details to sweep over.")
        return 1
    results: list[Drawn] = []
    for drawn in study(
        options.what, encoder, models, Jury.load(weights), options.subjects, options.prompts
    ):
        results.append(drawn)
        print(f"  {drawn.subject.name} ({drawn.subject.described})", flush=True)
    print(report(options.what, encoder, results))
    if options.sheet:
        sheet(results).quantize(256).save(options.sheet, optimize=True)
    return 0
