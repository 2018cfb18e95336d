"""The table of an ELITE training: means of the steps since the last line, anew for a new one."""

import csv
from types import SimpleNamespace

import pytest

pytestmark = pytest.mark.host


CONFIG = SimpleNamespace(learning_rate=0.1, rate=lambda step: 1 / (1 + step))


def rows(folder):
    with (folder / "log.csv").open(newline="") as file:
        return [(int(row["step"]), float(row["loss"])) for row in csv.DictReader(file)]


def logged(folder, steps, first=1, sheets=None):
    from personalize.cli.elite_log import Log

    log = Log(folder, CONFIG, every=2, sample_every=3, sheets=sheets)
    losses = {"loss": [float(n) for n in range(1, steps + 1)]}
    for step in range(first, steps + 1):
        seen = {"loss": losses["loss"][:step]}
        log(SimpleNamespace(step=step, steps=steps, losses=seen))
    return rows(folder)


def test_lines_are_means_since_the_last_one_and_the_last_step_has_its_own(tmp_path):
    assert logged(tmp_path, 5) == [(2, 1.5), (4, 3.5), (5, 5.0)]


def test_a_resumed_training_goes_on_in_its_table_and_a_new_one_begins_anew(tmp_path):
    logged(tmp_path, 4)
    assert logged(tmp_path, 6, first=5)[-2:] == [(4, 3.5), (6, 5.5)]
    assert logged(tmp_path, 2) == [(2, 1.5)]


def test_a_training_that_was_killed_has_no_line_twice(tmp_path):
    """It had gone further than the state that it goes on from; its last line may be half there."""
    logged(tmp_path, 6)
    with (tmp_path / "log.csv").open("a") as file:
        file.write("8")
    assert logged(tmp_path, 8, first=5) == [(2, 1.5), (4, 3.5), (6, 5.5), (8, 7.5)]
    (tmp_path / "log.csv").write_text("")
    assert logged(tmp_path, 2) == [(2, 1.5)]


def test_a_table_that_is_open_elsewhere_ends_no_training(tmp_path, monkeypatch, capsys):
    from personalize.cli.elite_log import Log

    def held(*_, **__):
        raise PermissionError("log.csv is held")

    log = Log(tmp_path, CONFIG, every=1, sample_every=1, sheets=None)
    log(SimpleNamespace(step=1, steps=3, losses={"loss": [1.0]}))
    with monkeypatch.context() as patch:
        patch.setattr(type(tmp_path), "open", held)
        log(SimpleNamespace(step=2, steps=3, losses={"loss": [1.0, 2.0]}))
    log(SimpleNamespace(step=3, steps=3, losses={"loss": [1.0, 2.0, 3.0]}))
    assert "step 2 is not in the table, which is open elsewhere" in capsys.readouterr().out
    assert rows(tmp_path) == [(1, 1.0), (3, 3.0)]


def test_tensorboard_has_every_line_at_once(tmp_path, monkeypatch):
    from personalize.cli import elite_log

    waiting, written = [], []
    board = SimpleNamespace(
        add_scalar=lambda name, value, step: waiting.append((name, value, step)),
        flush=lambda: written.extend(waiting) or waiting.clear(),
    )
    monkeypatch.setattr(elite_log, "_tensorboard", lambda folder: board)
    logged(tmp_path, 3)
    assert [(v, step) for name, v, step in written if name == "loss"] == [(1.5, 2), (3.0, 3)]
    assert not waiting


def test_sheets_come_every_so_often_and_at_the_end(tmp_path):
    drawn = []
    sheets = SimpleNamespace(write=lambda report: drawn.append(report.step))
    logged(tmp_path, 7, sheets=sheets)
    assert drawn == [3, 6, 7]
