"""How set-up gets a Chromium for the tests in a browser."""

import pytest
from personalize.tools import setup


@pytest.fixture
def tried(monkeypatch):
    """No Chromium on the PATH; keeps what set-up runs, which all fails."""
    commands = []
    monkeypatch.setattr(setup, "on_path", lambda: None)
    monkeypatch.setattr(setup, "_succeeds", lambda *words: bool(commands.append(words)))
    return commands


def names(commands):
    return [
        next(w for w in words if w in ("update", "install", "playwright")) for words in commands
    ]


@pytest.mark.parametrize(
    ("root", "release", "wanted"),
    [
        (True, ["ID=debian"], ["update", "playwright"]),
        (True, ["ID=ubuntu", "ID_LIKE=debian"], ["playwright"]),
        (False, ["ID=debian"], ["playwright"]),
        (False, [], ["playwright"]),
    ],
)
def test_ways_are_tried_in_turn_and_a_failure_is_told(
    root, release, wanted, tried, monkeypatch, capsys
):
    monkeypatch.setattr(setup, "_is_root", lambda: root)
    monkeypatch.setattr(setup, "_release", lambda: release)
    assert setup.browser() is None
    assert names(tried) == wanted
    assert ("--with-deps" in tried[-1]) is root
    assert "the tests in a browser are skipped" in capsys.readouterr().err


def test_the_first_way_that_works_ends_it(tried, monkeypatch):
    monkeypatch.setattr(setup, "_is_root", lambda: True)
    monkeypatch.setattr(setup, "_release", lambda: ["ID=debian"])
    monkeypatch.setattr(setup, "_succeeds", lambda *words: not tried.append(words))
    assert setup.browser() == "Debian's"
    assert names(tried) == ["update", "install"]


def test_a_chromium_that_is_there_is_taken(tried, monkeypatch):
    monkeypatch.setattr(setup, "on_path", lambda: "/usr/bin/chromium")
    assert setup.browser() == "/usr/bin/chromium" and not tried


def test_a_program_that_is_not_there_is_no_crash():
    assert not setup._succeeds("personalize-has-no-such-program")
