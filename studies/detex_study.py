"""DETEX and its baselines on the miniature: likeness, text, what leaks, and what can be swapped.

    python tools/run.py detex_study                       5 things, every way to learn them
    python tools/run.py detex_study --subjects 1 --ways "DETEX" --steps 20
    python tools/run.py detex_study --sheet docs/detex.webp
    python tools/run.py detex_study --subjects 2 --ways "DETEX" --ranks 4 8 16
    python tools/run.py detex_study --against "Custom Diffusion" --ways "Custom Diffusion" \
        "DETEX" "DETEX, its first pose named"

The shape of tables 1 and 3 of the paper (Cai et al. 2024). Each subject is learned from 4 pictures
and drawn from five prompts. Then the attribute judge reads pose and background of
    leaks       eight prompts that ask for a pose, and for a place that no picture shows; one leaks
                when the judge sees something else than was asked, and a picture shows just that
    swaps       the pose of picture i in the background of picture j, for all i != j; right when the
                judge reads the same as in the pictures. Ways without attribute words draw "photo of
                a <it>" for each swap: that is chance

What was run is kept in .study, by the weights and all settings: an interrupted study goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import cycle, islice, permutations
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from ..cli.comfyui import ROOT, OnCpu, prepare_host
from ..concepts.disk import write_whole
from .means import standard_error
from .recipes import PLACEHOLDER

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from ..concepts.concept import Concept
    from ..miniature.subjects import Jury, Prompt, Subject
    from .miniature_models import Miniature

FOLDER = ROOT / ".study"
MAIN = "DETEX"
LEAK_PROMPTS = 8
TABLES = {
    "Five prompts": {
        "likeness, subject alone": "likeness_fg",
        "CLIP-I, subject alone": "clip_i_fg",
        "CLIP-T": "clip_t",
        "asked and seen": "edits",
        "class kept": "kind",
    },
    "Told apart": {
        "pose leaks": "pose_leaks",
        "background leaks": "background_leaks",
        "swap: pose right": "pose",
        "background right": "background",
        "both right": "both",
        "likeness, swapped": "swapped_likeness",
    },
}


@dataclass(frozen=True)
class Way:
    """One way to learn: a method's config class by name, and its settings on the miniature.

    config: empty for the untouched model, which draws the class word
    naming: what prompts say for the subject, where that is more than the placeholder
    """

    config: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    naming: str = ""

    @property
    def has_attributes(self) -> bool:
        return self.config == "DetexConfig"


# as the demo's: see recipes.py
_WEIGHTS: dict[str, Any] = {"steps": 100, "batch_size": 4, "learning_rate": 1e-3, "prior_count": 16}
WAYS = {
    "class word, nothing learned": Way(),
    "Textual Inversion": Way(
        "TextualInversionConfig", {"steps": 150, "batch_size": 4, "learning_rate": 5e-3}
    ),
    "Custom Diffusion": Way("CustomDiffusionConfig", {**_WEIGHTS, "zoom": False}),
    "DETEX": Way("DetexConfig", _WEIGHTS),
    "DETEX without mappers": Way("DetexConfig", {**_WEIGHTS, "mappers": False}),
    "DETEX without attention loss": Way("DetexConfig", {**_WEIGHTS, "attention_weight": 0.0}),
    "DETEX without joint training": Way("DetexConfig", {**_WEIGHTS, "mask_probability": 0.0}),
}
VARIANTS = {
    "DETEX, its first pose named": Way("DetexConfig", _WEIGHTS, "<it> with <it:pose1> view"),
    "DETEX, printed norm": Way("DetexConfig", {**_WEIGHTS, "attention_norm": "norm"}),
    "DETEX, maps by maximum": Way("DetexConfig", {**_WEIGHTS, "attention_norm": "by maximum"}),
    "DETEX, mean square": Way("DetexConfig", {**_WEIGHTS, "attention_norm": "mean square"}),
    "DETEX, pose sees the subject": Way("DetexConfig", {**_WEIGHTS, "pose_sees": "subject"}),
    "DETEX, first token trained": Way("DetexConfig", {**_WEIGHTS, "first_token": True}),
    "Custom Diffusion, first token trained": Way(
        "CustomDiffusionConfig", {**_WEIGHTS, "zoom": False, "first_token": True}
    ),
    "Custom Diffusion, zoomed": Way("CustomDiffusionConfig", {**_WEIGHTS, "zoom": True}),
}
"""Ways that decided between readings of the paper; run when they are named."""

EVERY_WAY = {**WAYS, **VARIANTS}


Figures = Mapping[str, float]
"""Of one way and subject: means over the prompts, shares of leaks and swaps."""
Results = dict[str, list[Figures]]


# --- one subject, one way ---------------------------------------------------------------------


@dataclass(frozen=True)
class Study:
    """The models, the judges, and the folder that keeps outcomes and pictures of the classes."""

    models: Miniature
    jury: Jury
    folder: Path
    prompts: int

    def figures(self, subject: Subject, way: Way) -> Figures:
        """The kept figures, or those of a run now."""
        file = self._file(subject, way, self.prompts, LEAK_PROMPTS).with_suffix(".json")
        if not file.is_file():
            figures = self.measure(subject, way, self.concept(subject, way))
            write_whole(json.dumps(figures).encode(), file)
        return json.loads(file.read_text(encoding="utf-8"))

    def _file(self, subject: Subject, way: Way, *more: int) -> Path:
        said = {name: value for name, value in asdict(way).items() if name != "naming" or value}
        about = json.dumps([subject.name, said, *more], sort_keys=True)
        return self.folder / hashlib.sha256(about.encode()).hexdigest()[:16]

    def measure(self, subject: Subject, way: Way, concept: Concept | None) -> Figures:
        from ..miniature.subjects import mean_scores, prompts_for

        name, asked = name_of(subject, way), prompts_for(subject, self.prompts)
        pictures = self.draw(concept, [prompt.about(name) for prompt in asked])
        scores = [
            self.jury.score(subject, prompt, picture[None])[0]
            for prompt, picture in zip(asked, pictures, strict=True)
        ]
        return {
            **asdict(mean_scores(scores)),
            **self.leaks(subject, way, concept),
            **self.swaps(subject, way, concept),
        }

    def concept(self, subject: Subject, way: Way) -> Concept | None:
        """The kept one, or one learned now; None for the untouched model."""
        from ..concepts.files import load_concept, save_concept

        if not way.config:
            return None
        # what prompts say changes nothing about what is learned
        file = self._file(subject, replace(way, naming="")).with_suffix(".safetensors")
        if not file.is_file():
            save_concept(self.learn(subject, way), file)
        return load_concept(file)

    def learn(self, subject: Subject, way: Way) -> Concept:
        from ..training.learn import learn
        from .miniature_models import SIZE

        seen = subject.references
        settings = {"placeholder": PLACEHOLDER, "resolution": SIZE, "flip": False, "save_every": 0}
        sources = self.models.sources(
            [seen.pictures], masks=[seen.masks], prior_folder=self.folder / "prior"
        )
        return learn(config_of(subject, way, settings), sources).concept

    def leaks(self, subject: Subject, way: Way, concept: Concept | None) -> dict[str, float]:
        """Shares of pictures with a pose or place of the references where another was asked for."""
        shown = self.read(subject.references.pictures)
        asked = leak_prompts(shown["background"])
        prompts = [prompt.about(name_of(subject, way)) for prompt in asked]
        seen = self.read(self.draw(concept, prompts))
        return {
            f"{factor}_leaks": mean(
                found != prompt.asked[factor] and found in shown[factor]
                for prompt, found in zip(asked, seen[factor], strict=True)
            )
            for factor in shown
        }

    def swaps(self, subject: Subject, way: Way, concept: Concept | None) -> dict[str, float]:
        """Shares of the pairs i != j whose pose, background, and both the judge reads right."""
        pairs = list(permutations(range(len(subject.references)), 2))
        drawn = self.draw(concept, [swap_prompt(subject, way, i, j) for i, j in pairs])
        wanted, found = self.read(subject.references.pictures), self.read(drawn)
        hits = [
            (
                found["pose"][n] == wanted["pose"][i],
                found["background"][n] == wanted["background"][j],
            )
            for n, (i, j) in enumerate(pairs)
        ]
        return {
            "pose": mean(pose for pose, _ in hits),
            "background": mean(background for _, background in hits),
            "both": mean(pose and background for pose, background in hits),
            "swapped_likeness": self.jury.likeness(drawn, subject.blank_witnesses).mean().item(),
        }

    def read(self, pictures: Tensor) -> dict[str, list[str]]:
        """Pose and background that the attribute judge sees, by picture."""
        from ..miniature.models.judges import read_attributes
        from ..miniature.world.factors import FACTORS

        seen = read_attributes(self.jury.attributes, pictures.movedim(-1, 1).contiguous())
        names = list(FACTORS)
        return {
            factor: [FACTORS[factor][n] for n in seen[:, names.index(factor)].tolist()]
            for factor in ("pose", "background")
        }

    def draw(self, concept: Concept | None, prompts: Sequence[str]) -> Tensor:
        """A picture of each prompt, (n, H, W, 3); picture k starts from noise k."""
        import torch

        from ..host.sampling import text_to_image
        from ..samplers.apply import apply_concept
        from .miniature_models import GUIDANCE, SIZE, STEPS

        model, clip, vae, pictures = self.models.model, self.models.clip, self.models.vae, []
        with torch.inference_mode():
            if concept is not None:
                model, clip = apply_concept(model, clip, concept)
            for k, prompt in enumerate(prompts):
                picture = text_to_image(
                    model, clip, vae, prompt, SIZE, seed=k, steps=STEPS, cfg=GUIDANCE
                )
                pictures.append(picture)
        return torch.cat(pictures).clone()


def config_type(way: Way) -> type[Any]:
    """The class of a way's config, by its name: the ways are listed before the host is there."""
    from ..training.custom_diffusion import CustomDiffusionConfig
    from ..training.detex import DetexConfig
    from ..training.textual_inversion import TextualInversionConfig

    kinds = {c.__name__: c for c in (TextualInversionConfig, CustomDiffusionConfig, DetexConfig)}
    return kinds[way.config]


def changed(way: Way, tried: Mapping[str, Any]) -> Way:
    """A way with other settings, as far as its method has them."""
    known = {field.name for field in fields(config_type(way))} if way.config else set()
    own = {name: value for name, value in tried.items() if name in known}
    return replace(way, settings={**way.settings, **own}) if own else way


def config_of(subject: Subject, way: Way, settings: Mapping[str, Any]) -> Any:
    noun = "init_word" if way.config == "TextualInversionConfig" else "class_word"
    own = {noun: subject.class_word}
    if way.has_attributes:
        own["pose_word"] = "view"  # the things of the world are rigid
    return config_type(way)(**{**settings, **own, **way.settings})


def name_of(subject: Subject, way: Way) -> str:
    return (way.naming or PLACEHOLDER) if way.config else subject.class_word


def swap_prompt(subject: Subject, way: Way, i: int, j: int) -> str:
    if not way.has_attributes:
        return f"photo of a {name_of(subject, way)}"
    attributes = f"with <it:pose{i + 1}> view in <it:background{j + 1}> background"
    return f"photo of a {PLACEHOLDER} {attributes}"


def leak_prompts(shown: Sequence[str]) -> list[Prompt]:
    """Every pose by turns, in places other than those shown."""
    from ..miniature.subjects import Prompt
    from ..miniature.world.captions import PLACES, POSES

    places = cycle(place for place in PLACES if place not in shown)
    chosen = islice(zip(cycle(POSES), places, strict=False), LEAK_PROMPTS)
    return [
        Prompt(f"a photo of a {{}} {POSES[pose]} {PLACES[place][0]}",
               {"pose": pose, "background": place})
        for pose, place in chosen
    ]  # fmt: skip


def compression(study: Study, subjects: Sequence[Subject], ranks: Sequence[int]) -> list[str]:
    """What rounding the weights' changes to a rank costs: error, kB of the file, and figures."""
    from ..concepts.differences import compressed
    from ..concepts.files import save_concept

    columns = {"likeness, subject alone": "likeness_fg", "both right": "both"}
    lines = ["| rank | error | kB | " + " | ".join(columns) + " |"]
    lines.append("|---" * (3 + len(columns)) + "|")
    file = study.folder / "compressed.safetensors"
    for rank in [0, *ranks]:
        errors, sizes, figures = [], [], []
        for subject in subjects:
            concept, way = study.concept(subject, WAYS[MAIN]), WAYS[MAIN]
            assert concept is not None  # this way learns
            small, lost = compressed(concept, rank) if rank else (concept, 0.0)
            save_concept(small, file)
            errors.append(lost)
            sizes.append(file.stat().st_size / 1000)
            figures.append(study.measure(subject, way, small))
        cells = [cell([one[key] for one in figures]) for key in columns.values()]
        name = str(rank) if rank else "all"
        lines.append(
            f"| {name} | {mean(errors):.1%} | {mean(sizes):.0f} | " + " | ".join(cells) + " |"
        )
    return lines


def sheet(study: Study, subject: Subject) -> Image.Image:
    """Every pose in every place; then prompts that ask for other poses and places."""
    from .sheets import Row, draw_sheet

    way, shown = WAYS[MAIN], subject.references.pictures
    everyone = range(len(shown))
    concept = study.concept(subject, way)
    rows = []
    for i in everyone:
        asked = [swap_prompt(subject, way, i, j) for j in everyone]
        drawn = study.draw(concept, asked)
        rows.append(Row(f"view of picture {i + 1}", list(drawn), references=[shown[i]]))
    prompts = leak_prompts(study.read(shown)["background"])[: len(shown)]
    for name in ("Custom Diffusion", MAIN):
        concept = study.concept(subject, WAYS[name])
        drawn = study.draw(concept, [prompt.about(PLACEHOLDER) for prompt in prompts])
        rows.append(
            Row(name, list(drawn), [p.text.removeprefix("a photo of a {} ") for p in prompts])
        )
    columns = [f"background of picture {j + 1}" for j in everyone]
    return draw_sheet(f"DETEX: one {subject.class_word}, four pictures", columns, rows)


# --- all of them ------------------------------------------------------------------------------


def table(results: Results, columns: Mapping[str, str]) -> list[str]:
    """Means over the subjects with their standard errors."""
    lines = ["| | " + " | ".join(columns) + " |", "|---" * (1 + len(columns)) + "|"]
    for name, many in results.items():
        cells = [cell([figures[key] for figures in many]) for key in columns.values()]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def cell(values: Sequence[float]) -> str:
    """The mean, with its standard error where there are several."""
    error = f" ± {standard_error(values):.2f}" if len(values) > 1 else ""
    return f"{mean(values):.2f}{error}"


def comparison(results: Results, one: str, other: str) -> list[str]:
    """One way minus another, subject by subject, of two subjects or more."""
    keys = {name: key for columns in TABLES.values() for name, key in columns.items()}
    lines = [f"{one} minus {other}, mean and standard error of {len(results[one])} subjects:"]
    for name, key in keys.items():
        apart = [a[key] - b[key] for a, b in zip(results[one], results[other], strict=True)]
        lines.append(f"- {name}: {mean(apart):+.3f} ± {standard_error(apart):.3f}")
    return lines


def digest_of(weights: Path) -> str:
    """Of the miniature's files and of the subjects and prompts."""
    from ..miniature import subjects
    from ..miniature.files import CHECKPOINT, JUDGES, VISION

    digest = hashlib.sha256(Path(subjects.__file__).read_bytes())
    for name in (CHECKPOINT, VISION, JUDGES):
        digest.update((weights / name).read_bytes())
    return digest.hexdigest()[:12]


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="detex_study", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--subjects", type=int, default=5, help="number of things")
    parser.add_argument("--first", type=int, default=0, help="number of the first of them")
    parser.add_argument("--numbers", nargs="+", type=int, help="of the things, instead of both")
    parser.add_argument("--prompts", type=int, default=5, help="of each subject, 10 at most")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(EVERY_WAY))
    parser.add_argument("--against", default=MAIN, choices=list(EVERY_WAY), help="others, by pairs")
    parser.add_argument("--steps", type=int, help="instead of each way's own, for a try")
    parser.add_argument("--learning-rate", type=float, help="instead of each way's own, for a try")
    parser.add_argument("--prior-weight", type=float, help="instead of 1; 0 for a quicker try")
    parser.add_argument("--weights", type=Path, help="folder of the miniature's files")
    parser.add_argument("--sheet", type=Path, help="a picture file to draw, of the first subject")
    parser.add_argument("--ranks", nargs="+", type=int, help="of compressed files, to measure too")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="keeps what was run")
    parser.add_argument("--cpu", action=OnCpu)
    return parser


def main(arguments: Sequence[str]) -> int:
    options = make_parser().parse_args(arguments)
    prepare_host()
    from ..miniature.files import WEIGHTS
    from ..miniature.subjects import Jury, thing
    from .miniature_models import load_miniature

    weights = options.weights or WEIGHTS
    folder = options.folder / f"detex-{digest_of(weights)}"
    folder.mkdir(parents=True, exist_ok=True)
    study = Study(load_miniature(weights), Jury.load(weights), folder, options.prompts)
    given = {name: getattr(options, name) for name in ("steps", "learning_rate", "prior_weight")}
    tried = {name: value for name, value in given.items() if value is not None}
    results: Results = {name: [] for name in options.ways}
    counted = range(options.first, options.first + options.subjects)
    subjects = [thing(number) for number in options.numbers or counted]
    for subject in subjects:
        for name in options.ways:
            figures = study.figures(subject, changed(EVERY_WAY[name], tried))
            results[name].append(figures)
            shown = ", ".join(f"{k} {v:.2f}" for k, v in figures.items())
            print(f"{subject.name}, {name}: {shown}", flush=True)
    for title, columns in TABLES.items():
        print("\n".join(["", f"**{title}**", "", *table(results, columns)]))
    for name in options.ways:
        if len(subjects) > 1 and options.against in options.ways and name != options.against:
            print("\n".join(["", *comparison(results, options.against, name)]))
    if options.ranks:
        print("\n".join(["", *compression(study, subjects, options.ranks)]))
    if options.sheet:
        sheet(study, subjects[0]).save(options.sheet, quality=80)
    return 0
