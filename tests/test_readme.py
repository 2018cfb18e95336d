"""The README's table of methods: its work follows from the defaults, its sizes from real files."""

import re
from pathlib import Path

import pytest
import torch
from personalize.concepts import methods
from personalize.concepts.bases import BASES, TextLayer
from personalize.concepts.concept import Concept
from personalize.concepts.differences import compressed, difference_tensors
from personalize.concepts.files import save_concept
from personalize.concepts.residuals import residual_tensors
from personalize.training.catversion import CatVersionConfig
from personalize.training.cross_init import PRESETS, CrossInitConfig
from personalize.training.custom_diffusion import CustomDiffusionConfig
from personalize.training.detex import DetexConfig
from personalize.training.textual_inversion import TextualInversionConfig

pytestmark = pytest.mark.host

WIDTH = 768
README = Path(__file__).resolve().parents[1] / "README.md"
CROSS_ATTENTIONS = [320] * 5 + [640] * 5 + [1280] * 6  # of Stable Diffusion 1.x
RANK = 16


def row(method: str) -> list[str]:
    (line,) = re.findall(
        rf"^\|.*{method} \(.*\|$", README.read_text(encoding="utf-8"), re.MULTILINE
    )
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize(
    ("method", "config", "passes"),
    [
        ("Textual Inversion", TextualInversionConfig(placeholder="<it>", init_word="dog"), 1),
        ("CatVersion\\*\\*", CatVersionConfig(placeholder="<it>", class_word="dog"), 1),
        ("Cross Initialization\\*\\*", CrossInitConfig(placeholder="<it>"), 1),
        ("Custom Diffusion", CustomDiffusionConfig(placeholder="<it>", class_word="dog"), 2),
        ("DETEX\\*\\*", DetexConfig(placeholder="<it>", class_word="dog"), 2),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_work_is_pictures_through_the_unet(method, config, passes):
    """Prior preservation doubles a batch."""
    work = row(method)[3]
    assert f"{config.steps * config.batch_size * passes:,}" in work
    if isinstance(config, CrossInitConfig):
        assert f"{PRESETS['fast'].steps * config.batch_size} (*fast*)" in work


def concept(method, vectors=1, **tensors):
    words = {"": torch.ones(vectors, WIDTH)} if vectors else {}
    return Concept(method, "sd1", WIDTH, "<it>", "dog", words=words, **tensors)


def differences():
    paths = (f"block.{n}.attn2.to_{x}" for n in range(len(CROSS_ATTENTIONS)) for x in "kv")
    shapes = (out for out in CROSS_ATTENTIONS for _ in "kv")
    return {path: torch.zeros(out, WIDTH) for path, out in zip(paths, shapes, strict=True)}


def bytes_of(concept, folder):
    save_concept(concept, folder / "it.safetensors")
    return (folder / "it.safetensors").stat().st_size


def test_sizes_are_those_of_files(tmp_path):
    pair = torch.ones(1, WIDTH), torch.ones(1, WIDTH)
    residuals = {TextLayer("clip_l", index): pair for index in (9, 10, 11)}
    residuals = residual_tensors(BASES["sd1"], residuals, 1.0)
    weights = concept(methods.DETEX, tensors=difference_tensors(differences()))
    pictured = concept(methods.ELITE, 5, tensors={"local": torch.ones(256, WIDTH)})
    sizes = {
        "Textual Inversion": concept(methods.TEXTUAL_INVERSION),
        "Cross Initialization\\*\\*": concept(methods.CROSS_INIT, 2),
        "CatVersion\\*\\*": concept(methods.CATVERSION, 0, tensors=residuals),
        "ELITE\\*\\*": pictured,
    }
    for method, one in sizes.items():
        size = bytes_of(one, tmp_path)
        told = f"{size / 1e6:.1f} MB" if size > 1e5 else f"{int(size / 1000)} kB"
        assert row(method)[4] == told
    whole = f"{bytes_of(weights, tmp_path) / 1e6:.0f} MB"
    small = f"{bytes_of(compressed(weights, RANK)[0], tmp_path) / 1e6:.1f} MB compressed"
    for method in ("DETEX\\*\\*", "Custom Diffusion"):
        assert row(method)[4] == f"{whole}, {small}"


STUDY = README.parent / "docs" / "study.md"


def told(title: str, method: str) -> tuple[float, float]:
    """Likeness and percent of edits of a row in a table of the study's page."""
    _, part = STUDY.read_text(encoding="utf-8").split(f"{title} each**", 1)
    (line,) = re.findall(rf"^\| {method} \|.*$", part.split("Likeness of what", 1)[0], re.MULTILINE)
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    return float(cells[1]), float(cells[4].rstrip("%"))


@pytest.mark.parametrize(
    ("method", "titles"),
    [
        ("Cross Initialization\\*\\*", ["Cross Initialization, fast", "Cross Initialization"]),
        ("ELITE\\*\\*", ["ELITE"]),
        ("CatVersion\\*\\*", ["CatVersion"]),
        ("DETEX\\*\\*", ["DETEX"]),
        ("Custom Diffusion", ["Custom Diffusion"]),
        ("Textual Inversion", ["Textual Inversion"]),
    ],
)
def test_scores_are_those_of_the_study(method, titles):
    things = "things, 1 picture" if titles == ["ELITE"] else "things, 4 pictures"
    for cell, table in ((row(method)[-2], things), (row(method)[-1], "faces, 1 picture")):
        said = re.findall(r"(\.\d\d) / (\d+) %", cell)
        assert len(said) == len(titles)
        for (likeness, edits), title in zip(said, titles, strict=True):
            found, kept = told(table, title)
            assert float(likeness) == pytest.approx(found, abs=0.00501)
            assert float(edits) == kept
