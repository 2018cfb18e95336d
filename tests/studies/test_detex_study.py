"""The study of DETEX runs with the miniature, counts rightly, and goes on where it stopped."""

from dataclasses import replace

import pytest
import torch
from personalize.concepts import methods
from personalize.concepts.concept import Concept
from personalize.concepts.differences import difference_tensors
from personalize.miniature.files import CHECKPOINT, WEIGHTS
from personalize.miniature.subjects import Jury, thing
from personalize.studies import detex_study, miniature_models
from personalize.studies.detex_study import (
    MAIN,
    TABLES,
    VARIANTS,
    WAYS,
    Study,
    Way,
    changed,
    comparison,
    compression,
    leak_prompts,
    name_of,
    swap_prompt,
    table,
)

pytestmark = pytest.mark.host

KEYS = [key for columns in TABLES.values() for key in columns.values()]
POSE_NAMED = VARIANTS["DETEX, its first pose named"]
SHORT = {"steps": 1, "batch_size": 1}


def test_means_and_comparisons():
    results = {
        name: [dict.fromkeys(KEYS, value) for value in values]
        for name, values in {MAIN: (0.5, 0.7, 0.1), "other": (0.2, 0.3, 0.4)}.items()
    }
    lines = table(results, {"a": KEYS[0], "b": KEYS[1]})
    assert lines[0] == "| | a | b |" and lines[2] == "| DETEX | 0.43 ± 0.18 | 0.43 ± 0.18 |"
    lines = comparison(results, MAIN, "other")
    assert lines[0].endswith("of 3 subjects:") and len(lines) == 1 + len(KEYS)
    assert lines[1].endswith("+0.133 ± 0.219")


def test_a_leak_is_asked_for_in_places_that_no_picture_shows():
    prompts = leak_prompts(["beach", "snow", "night", "studio"])
    assert len(prompts) == detex_study.LEAK_PROMPTS
    assert {p.asked["pose"] for p in prompts} == {"right", "left", "lying", "upside down"}
    assert not {p.asked["background"] for p in prompts} & {"beach", "snow", "night", "studio"}
    first = "a photo of a <it> facing right on a purple rug"
    assert prompts[0].about("<it>") == first and prompts[0].asked["background"] == "rug"


def test_what_is_drawn_for_a_swap():
    way, subject = WAYS[MAIN], thing(0)
    asked = "photo of a <it> with <it:pose2> view in <it:background1> background"
    assert swap_prompt(subject, way, 1, 0) == swap_prompt(subject, POSE_NAMED, 1, 0) == asked
    assert swap_prompt(subject, Way(), 1, 0) == "photo of a mug"


def test_what_is_tried_is_set_where_a_method_has_it():
    """Nothing of a way is another, its kept outcomes neither, where nothing of it was tried."""
    tried = {"steps": 3, "prior_weight": 0.0}
    assert changed(WAYS[MAIN], tried).settings == {**WAYS[MAIN].settings, **tried}
    words = WAYS["Textual Inversion"]
    assert changed(words, tried).settings == {**words.settings, "steps": 3}
    assert all(changed(way, {}) is way for way in {**WAYS, **VARIANTS}.values())
    assert changed(Way(), tried) == Way()


def test_a_way_that_prompts_say_otherwise_is_learned_once(monkeypatch, tmp_path):
    """The same concept, whose figures are kept apart."""
    study, subject = Study(None, None, tmp_path, 1), thing(0)
    concept = Concept(methods.DETEX, "sd1", 128, "<it>", "mug", words={"": torch.ones(1, 128)})
    monkeypatch.setattr(Study, "learn", lambda *_: learned.append(1) or concept)
    said, learned = [], []
    monkeypatch.setattr(
        Study, "measure", lambda self, s, way, c: said.append(name_of(s, way)) or {"a": len(said)}
    )
    figures = [study.figures(subject, way)["a"] for way in (WAYS[MAIN], POSE_NAMED)]
    assert figures == [1, 2] and len(learned) == 1
    assert said == ["<it>", "<it> with <it:pose1> view"]


@pytest.fixture(scope="module")
def models():
    if not (WEIGHTS / CHECKPOINT).exists():
        pytest.skip("no weights: see miniature/MODEL_CARD.md")
    from personalize.studies.miniature_models import load_miniature

    return load_miniature()


def test_leaks_and_swaps_are_counted_as_the_judge_reads(monkeypatch):
    study, subject = Study(None, Jury({}, {}, {}), None, 1), thing(0)
    seen = {
        "references": {"pose": ["left", "left"], "background": ["snow", "city"]},
        "leaks": {"pose": ["left", "left"] + ["right"] * 6, "background": ["city"] + ["rug"] * 7},
        "swaps": {"pose": ["left", "right"], "background": ["city", "snow"]},
    }
    monkeypatch.setattr(Study, "draw", lambda self, concept, prompts: what)
    monkeypatch.setattr(
        Study, "read", lambda self, shown: seen[shown if isinstance(shown, str) else "references"]
    )
    monkeypatch.setattr(Jury, "likeness", lambda self, drawn, others: torch.tensor([0.25, 0.75]))
    monkeypatch.setattr(type(subject.references), "__len__", lambda self: 2)
    what = "leaks"  # asked: right, left, ... each in another place
    assert study.leaks(subject, WAYS[MAIN], None) == {
        "pose_leaks": 1 / 8, "background_leaks": 1 / 8,
    }  # fmt: skip
    what = "swaps"  # asked: left in the city, left in the snow
    assert study.swaps(subject, WAYS[MAIN], None) == {
        "pose": 0.5, "background": 1.0, "both": 0.5, "swapped_likeness": 0.5,
    }  # fmt: skip


def test_what_a_lower_rank_costs(monkeypatch, tmp_path):
    noise = torch.randn(16, 128, generator=torch.Generator().manual_seed(0))
    concept = Concept(
        methods.DETEX, "sd1", 128, "<it>", "mug", words={"": torch.ones(1, 128)},
        tensors=difference_tensors({"a": noise}),
    )  # fmt: skip
    monkeypatch.setattr(Study, "concept", lambda *_: concept)
    monkeypatch.setattr(Study, "measure", lambda *_: dict.fromkeys(KEYS, 0.5))
    lines = compression(Study(None, None, tmp_path, 1), [thing(0)], [2, 16])
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]
    assert [row[0] for row in cells] == ["all", "2", "16"]
    errors = [float(row[1].rstrip("%")) for row in cells]
    assert errors[0] == errors[2] == 0 and 50 < errors[1] < 100
    assert float(cells[1][2]) < float(cells[0][2])


@pytest.mark.parametrize("name", list(WAYS)[:5])
def test_every_way_runs_once(models, tmp_path, monkeypatch, name):
    monkeypatch.setattr(miniature_models, "STEPS", 1)
    monkeypatch.setattr(detex_study, "LEAK_PROMPTS", 1)
    own = WAYS[name]
    short = {**SHORT, "prior_weight": 0.0} if own.has_attributes else SHORT
    settings = {**own.settings, **short} if own.config else {}
    if own.config == "CustomDiffusionConfig":
        settings["prior_weight"] = 0.0
    way, subject = Way(own.config, settings), thing(1)
    subject = replace(subject, references=subject.references.first(2))
    study = Study(models, Jury.load(), tmp_path, 1)
    figures = study.figures(subject, way)
    assert figures.keys() >= set(KEYS) and all(-1 <= v <= 1 for v in figures.values())
    monkeypatch.setattr(Study, "measure", None)
    assert study.figures(subject, way) == figures
    monkeypatch.setattr(Study, "learn", None)
    concept = study.concept(subject, way)
    assert concept is None if not own.config else concept.class_word


def test_things_by_their_numbers_against_any_way(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(miniature_models, "load_miniature", lambda *_: None)
    monkeypatch.setattr(Jury, "load", lambda *_: None)
    monkeypatch.setattr(detex_study, "digest_of", lambda _: "weights")
    monkeypatch.setattr(
        Study, "figures", lambda self, subject, way: dict.fromkeys(KEYS, len(way.config) / 10)
    )
    ways = ["Custom Diffusion", MAIN]
    options = ["--numbers", "0", "4", "--against", ways[0], "--folder", str(tmp_path)]
    assert detex_study.main([*options, "--ways", *ways]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert [line.partition(",")[0] for line in printed[:4]] == ["thing 0"] * 2 + ["thing 4"] * 2
    assert "| Custom Diffusion | 2.10 ± 0.00 |" in "\n".join(printed)
    assert "Custom Diffusion minus DETEX, mean and standard error of 2 subjects:" in printed
    assert "- CLIP-T: +1.000 ± 0.000" in printed
