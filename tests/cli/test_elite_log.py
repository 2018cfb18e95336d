"""The table of an ELITE training: means of the steps since the last line, anew for a new one."""

import csv
from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.host


def logged(folder, steps, first=1, sheets=None):
    from personalize.cli.elite_log import Log

    config = SimpleNamespace(learning_rate=0.1, rate=lambda step: 1 / (1 + step))
    log = Log(folder, config, every=2, sample_every=3, sheets=sheets)
    losses = {"loss": [float(n) for n in range(1, steps + 1)]}
    for step in range(first, steps + 1):
        seen = {"loss": losses["loss"][:step]}
        log(SimpleNamespace(step=step, steps=steps, losses=seen))
    with (folder / "log.csv").open(newline="") as file:
        return [(int(row["step"]), float(row["loss"])) for row in csv.DictReader(file)]


def test_lines_are_means_since_the_last_one_and_the_last_step_has_its_own(tmp_path):
    assert logged(tmp_path, 5) == [(2, 1.5), (4, 3.5), (5, 5.0)]


def test_a_resumed_training_goes_on_in_its_table_and_a_new_one_begins_anew(tmp_path):
    logged(tmp_path, 4)
    assert logged(tmp_path, 6, first=5)[-2:] == [(4, 3.5), (6, 5.5)]
    assert logged(tmp_path, 2) == [(2, 1.5)]


def test_sheets_come_every_so_often_and_at_the_end(tmp_path):
    drawn = []
    sheets = SimpleNamespace(write=lambda report: drawn.append(report.step))
    logged(tmp_path, 7, sheets=sheets)
    assert drawn == [3, 6, 7]
