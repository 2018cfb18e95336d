"""The one way to call a command."""

import io
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from personalize.cli import run
from personalize.cli.comfyui import HostError
from personalize.cli.run import FOLDERS, commands, listing, main, name_of
from personalize.concepts.errors import PictureError
from personalize.tools import published

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = {module: line for found in commands().values() for module, line in found.items()}


def test_every_folder_has_commands_and_each_has_a_name_of_its_own():
    assert set(commands()) == set(FOLDERS)
    assert all(commands().values())
    twice = [name for name, count in Counter(map(name_of, COMMANDS)).items() if count > 1]
    assert not twice, f"name these apart: {twice}"
    assert {"cli.benchmark", "cli.train_elite", "tools.examples.make_banner"} <= set(COMMANDS)


@pytest.mark.parametrize("module", COMMANDS)
def test_the_first_line_of_a_command_says_what_it_does(module):
    line = COMMANDS[module]
    assert line and "python " not in line, f"{module}: {line!r}"
    assert f"  {name_of(module)} " in listing()


def test_without_a_name_the_commands_are_listed(capsys):
    assert main([]) == 0
    assert listing() in capsys.readouterr().out


def test_an_unknown_name_is_told(capsys):
    assert main(["nonsense"]) == 2
    assert "There is no command 'nonsense'." in capsys.readouterr().err


@pytest.mark.parametrize(
    "error, code, told",
    [
        (HostError("There is no ComfyUI."), 1, "There is no ComfyUI.\n"),
        (PictureError("Paint the subject white."), 1, "Paint the subject white.\n"),
        (KeyboardInterrupt(), 130, "\nStopped.\n"),
    ],
)
def test_what_ends_a_command_is_a_sentence(monkeypatch, capsys, error, code, told):
    monkeypatch.setattr(run, "register_pack", lambda: None)  # the tests have done so
    monkeypatch.setattr(published, "main", ends_with(error), raising=False)
    monkeypatch.setattr(run, "commands", lambda: {"tools": {"tools.published": "a line"}})
    assert main(["published"]) == code
    assert capsys.readouterr().err == told


def test_an_error_that_nobody_wrote_a_sentence_for_is_shown_whole(monkeypatch):
    monkeypatch.setattr(run, "register_pack", lambda: None)
    monkeypatch.setattr(published, "main", ends_with(ZeroDivisionError()), raising=False)
    monkeypatch.setattr(run, "commands", lambda: {"tools": {"tools.published": "a line"}})
    with pytest.raises(ZeroDivisionError):
        main(["published"])


def ends_with(error):
    def command(arguments):
        raise error

    return command


def test_a_name_that_the_console_lacks_ends_nothing(monkeypatch):
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="cp1252"))
    run.show_what_can_be_shown()
    sys.stdout.write("learning \u732b\n")
    sys.stdout.flush()
    assert shown.getvalue().split() == [b"learning", b"?"]


@pytest.mark.parametrize("door", ["cli/run.py", "tools/run.py"])
def test_both_doors_start_a_command_from_any_folder(door, tmp_path):
    line = [sys.executable, ROOT / door, "train_elite", "--help"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--clip-vision" in done.stdout


def test_users_get_the_commands_of_cli_alone(tmp_path):
    """As in a ComfyUI that the pack was installed into: no other folder is there."""
    for file in ("__init__.py", *(str(f.relative_to(ROOT)) for f in ROOT.glob("cli/**/*.py"))):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes((ROOT / file).read_bytes())
    line = [sys.executable, tmp_path / "cli" / "run.py"]
    listed = subprocess.run(line, capture_output=True, text=True, check=True).stdout
    names = [text.split()[0] for text in listed.splitlines() if text.startswith("  ")]
    assert names == ["benchmark", "train_elite"]
