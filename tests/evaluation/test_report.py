"""The report picture and the tables."""

import csv
import io
import json

import numpy as np
import pytest
from personalize.evaluation.evaluate import MEASURES, Evaluation
from personalize.evaluation.pictures import Picture
from personalize.evaluation.report import MOST, REPORT_WIDTH, draw_report
from personalize.evaluation.tables import as_csv, as_json


def made_up(count, names=tuple(MEASURES), prompt="a dog, on the beach"):
    rows = {name: tuple((n + k) / 100 for k in range(count)) for n, name in enumerate(names)}
    means = {name: sum(row) / count for name, row in rows.items()}
    return Evaluation((prompt,) * count, rows, means)


def noise(count, sizes=((20, 30), (40, 25))):
    rng = np.random.default_rng(0)
    shapes = [sizes[n % len(sizes)] for n in range(count)]
    return [Picture(rng.integers(0, 255, (*s, 3), dtype=np.uint8)) for s in shapes]


def test_csv_and_json_say_the_same():
    evaluation = made_up(3)
    rows = list(csv.DictReader(io.StringIO(as_csv(evaluation))))
    told = json.loads(as_json(evaluation))
    assert [row["picture"] for row in rows] == ["1", "2", "3", "mean"]
    assert [row["prompt"] for row in rows[:3]] == ["a dog, on the beach"] * 3
    for name in MEASURES:
        column = [float(row[name]) for row in rows]
        assert column[:3] == pytest.approx(evaluation.per_picture[name], abs=1e-6)
        assert column[:3] == pytest.approx([p[name] for p in told["pictures"]], abs=1e-6)
        assert column[3] == pytest.approx(told["means"][name], abs=1e-6)


@pytest.mark.parametrize("count", [1, 7, MOST + 3])
def test_a_report_shows_every_score_and_picture(count):
    report = draw_report(made_up(count), noise(count), noise(2), "CLIP tiny")
    assert report.width == REPORT_WIDTH and report.mode == "RGB"
    fewer = draw_report(made_up(count, ("CLIP-T", "CLIP-I")), noise(count), noise(2), "CLIP tiny")
    assert fewer.height < report.height
    assert report.height < 3000


def test_a_report_shows_what_the_scores_are():
    pictures = noise(2)
    low, high = (
        draw_report(Evaluation(("x",), {"CLIP-T": (v,)}, {"CLIP-T": v}), pictures[:1], pictures)
        for v in (0.2, 0.9)
    )
    changed = np.asarray(low) != np.asarray(high)
    assert changed[:200].sum() > 1000  # a longer bar
    assert not changed[200:300].any()  # the same references


def test_odd_prompts_are_drawn():
    words = "a very long prompt " * 40 + "\N{SNOWMAN}"
    assert draw_report(made_up(1, prompt=words), noise(1), noise(1)).height > 300
    assert draw_report(made_up(1, prompt="x" * 500), noise(1), noise(1)).height > 300
