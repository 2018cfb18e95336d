"""DETEX and its baselines on the miniature: likeness, text, and poses and backgrounds swapped.

    python tools/run.py detex_study                       5 things, every way to learn them
    python tools/run.py detex_study --subjects 1 --ways "DETEX" --steps 20

The shape of tables 1 and 3 of the paper (Cai et al. 2024). Each subject is learned from 4 pictures
and drawn from ten prompts. A swap asks for the pose of picture i in the background of picture j,
for all i != j; the attribute judge reads pictures and references, and a swap is right when it reads
the same. Ways without attribute words draw "photo of a <it>" for each swap: that is chance.

What was run is kept in .study, by the weights and all settings: an interrupted study goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import permutations
from pathlib import Path
from statistics import mean, stdev
from typing import TYPE_CHECKING, Any

from .alias import ROOT, prepare_host

if TYPE_CHECKING:
    from torch import Tensor

    from ..concepts.concept import Concept
    from ..miniature.subjects import Jury, Subject
    from .miniature_models import Miniature

FOLDER = ROOT / ".study"
PLACEHOLDER = "<it>"
COLUMNS = {
    "likeness, subject alone": "likeness_fg",
    "CLIP-I, subject alone": "clip_i_fg",
    "CLIP-T": "clip_t",
    "asked and seen": "edits",
    "class kept": "kind",
    "pose right": "pose",
    "background right": "background",
    "both right": "both",
}


@dataclass(frozen=True)
class Way:
    """One way to learn: a method's config class by name, and its settings on the miniature."""

    config: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_attributes(self) -> bool:
        return self.config == "DetexConfig"


# of short trials on one subject: see docs/detex.md
_WEIGHTS: dict[str, Any] = {"steps": 200, "batch_size": 4, "learning_rate": 5e-4, "prior_count": 16}
WAYS = {
    "Textual Inversion": Way(
        "TextualInversionConfig", {"steps": 150, "batch_size": 4, "learning_rate": 5e-3}
    ),
    "Custom Diffusion": Way("CustomDiffusionConfig", _WEIGHTS),
    "DETEX": Way("DetexConfig", _WEIGHTS),
    "DETEX without mappers": Way("DetexConfig", {**_WEIGHTS, "mappers": False}),
    "DETEX without attention loss": Way("DetexConfig", {**_WEIGHTS, "attention_weight": 0.0}),
    "DETEX without joint training": Way("DetexConfig", {**_WEIGHTS, "mask_probability": 0.0}),
}


@dataclass(frozen=True)
class Outcome:
    """Of one way and subject: means over the prompts, shares of the swaps, seconds of learning."""

    figures: Mapping[str, float]
    seconds: float


# --- one subject, one way ---------------------------------------------------------------------


@dataclass(frozen=True)
class Study:
    """The models, the judges, and the folder that keeps outcomes and pictures of the classes."""

    models: Miniature
    jury: Jury
    folder: Path
    prompts: int

    def outcome(self, subject: Subject, way: Way) -> Outcome:
        """The kept outcome, or that of a run now."""
        about = [subject.name, asdict(way), self.prompts]
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
        file = self.folder / f"{digest[:16]}.json"
        if not file.is_file():
            outcome = self.run(subject, way)
            part = file.with_suffix(".part")
            part.write_text(json.dumps({"about": about, **asdict(outcome)}), encoding="utf-8")
            part.rename(file)
        kept = json.loads(file.read_text(encoding="utf-8"))
        return Outcome(kept["figures"], kept["seconds"])

    def run(self, subject: Subject, way: Way) -> Outcome:
        from ..miniature.subjects import mean_scores, prompts_for

        began = time.perf_counter()
        concept = self.learn(subject, way)
        seconds = time.perf_counter() - began
        asked = prompts_for(subject, self.prompts)
        pictures = self.draw(concept, [prompt.about(PLACEHOLDER) for prompt in asked])
        scores = [
            self.jury.score(subject, prompt, picture[None])[0]
            for prompt, picture in zip(asked, pictures, strict=True)
        ]
        swaps = self.swaps(subject, way, concept)
        return Outcome({**asdict(mean_scores(scores)), **swaps}, seconds)

    def learn(self, subject: Subject, way: Way) -> Concept:
        from ..training.learn import Material, learn
        from .miniature_models import SIZE

        models, seen = self.models, subject.references
        settings = {"placeholder": PLACEHOLDER, "resolution": SIZE, "flip": False, "save_every": 0}
        material = Material(
            prior_folder=self.folder / "prior", masks=[seen.masks], clip_vision=models.vision
        )
        return learn(
            config_of(subject, way, settings),
            models.model,
            models.clip,
            models.vae,
            [seen.pictures],
            material=material,
        ).concept

    def swaps(self, subject: Subject, way: Way, concept: Concept) -> dict[str, float]:
        """Shares of the pairs i != j whose pose, background, and both the judge reads right."""
        pairs = list(permutations(range(len(subject.references)), 2))
        drawn = self.draw(concept, [swap_prompt(way, i, j) for i, j in pairs])
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
        }

    def read(self, pictures: Tensor) -> dict[str, list[int]]:
        """The option that the attribute judge sees of pose and background, by picture."""
        from ..miniature.judges import read_attributes
        from ..miniature.world.factors import FACTORS

        seen = read_attributes(self.jury.attributes, pictures.movedim(-1, 1).contiguous())
        names = list(FACTORS)
        return {f: seen[:, names.index(f)].tolist() for f in ("pose", "background")}

    def draw(self, concept: Concept, prompts: Sequence[str]) -> Tensor:
        """A picture of each prompt, (n, H, W, 3); picture k starts from noise k."""
        import torch

        from ..host.sampling import text_to_image
        from ..samplers.apply import apply_concept
        from .miniature_models import GUIDANCE, SIZE, STEPS

        vae, pictures = self.models.vae, []
        with torch.inference_mode():
            model, clip = apply_concept(self.models.model, self.models.clip, concept)
            for k, prompt in enumerate(prompts):
                picture = text_to_image(
                    model, clip, vae, prompt, SIZE, seed=k, steps=STEPS, cfg=GUIDANCE
                )
                pictures.append(picture)
        return torch.cat(pictures).clone()


def config_of(subject: Subject, way: Way, settings: Mapping[str, Any]) -> Any:
    from ..training.custom_diffusion import CustomDiffusionConfig
    from ..training.detex import DetexConfig
    from ..training.textual_inversion import TextualInversionConfig

    kinds = {c.__name__: c for c in (TextualInversionConfig, CustomDiffusionConfig, DetexConfig)}
    noun = "init_word" if way.config == "TextualInversionConfig" else "class_word"
    own = {noun: subject.class_word}
    if way.has_attributes:
        own["pose_word"] = "view"  # the things of the world are rigid
    return kinds[way.config](**{**settings, **own, **way.settings})


def swap_prompt(way: Way, i: int, j: int) -> str:
    if not way.has_attributes:
        return f"photo of a {PLACEHOLDER}"
    return (
        f"photo of a {PLACEHOLDER} with <it:pose{i + 1}> view in <it:background{j + 1}> background"
    )


# --- all of them ------------------------------------------------------------------------------


def table(results: Mapping[str, Sequence[Outcome]]) -> list[str]:
    """Means over the subjects, with the standard error of the first column and of the swaps."""
    lines = ["| | " + " | ".join(COLUMNS) + " | s |", "|---" * (2 + len(COLUMNS)) + "|"]
    for name, outcomes in results.items():
        cells = []
        for column in COLUMNS.values():
            values = [outcome.figures[column] for outcome in outcomes]
            error = stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
            spread = f" ± {error:.3f}" if column in ("likeness_fg", "both") else ""
            cells.append(f"{mean(values):.3f}{spread}")
        seconds = mean(outcome.seconds for outcome in outcomes)
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {seconds:.0f} |")
    return lines


def digest_of(weights: Path) -> str:
    """Of the miniature's files and of the subjects and prompts."""
    from ..miniature import subjects
    from ..miniature.files import CHECKPOINT, JUDGES, VISION

    digest = hashlib.sha256(Path(subjects.__file__).read_bytes())
    for name in (CHECKPOINT, VISION, JUDGES):
        digest.update((weights / name).read_bytes())
    return digest.hexdigest()[:12]


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="detex_study", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--subjects", type=int, default=5, help="number of things")
    parser.add_argument("--prompts", type=int, default=10, help="of each subject, 10 at most")
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS))
    parser.add_argument("--steps", type=int, help="instead of each way's own, for a try")
    parser.add_argument("--learning-rate", type=float, help="instead of each way's own, for a try")
    parser.add_argument("--weights", type=Path, help="folder of the miniature's files")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="keeps what was run")
    options = parser.parse_args(arguments)
    prepare_host()
    from ..miniature.files import WEIGHTS
    from ..miniature.subjects import Jury, thing
    from .miniature_models import load_miniature

    weights = options.weights or WEIGHTS
    folder = options.folder / f"detex-{digest_of(weights)}"
    folder.mkdir(parents=True, exist_ok=True)
    study = Study(load_miniature(weights), Jury.load(weights), folder, options.prompts)
    tried = {"steps": options.steps, "learning_rate": options.learning_rate}
    tried = {name: value for name, value in tried.items() if value}
    results: dict[str, list[Outcome]] = {name: [] for name in options.ways}
    for number in range(options.subjects):
        subject = thing(number)
        for name in options.ways:
            way = Way(WAYS[name].config, {**WAYS[name].settings, **tried})
            outcome = study.outcome(subject, way)
            results[name].append(outcome)
            shown = ", ".join(f"{k} {outcome.figures[v]:.2f}" for k, v in COLUMNS.items())
            print(f"{subject.name}, {name}: {shown}, {outcome.seconds:.0f} s", flush=True)
    print("\n".join(["", *table(results)]))
    return 0
