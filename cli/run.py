"""Run a command: python cli/run.py NAME [arguments]. Without a name it lists them, a line each.

A command is a module or package, in a folder below or one folder further down, that has a function
`main(arguments) -> exit code`. The first line of its docstring is its line in the list. Users get
`cli/` alone; the other folders are those of the repository.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import io
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {
    "cli": "commands that ship with the pack",
    "studies": "what the methods can do, measured on the miniature",
    "bench": "what they cost",
    "tools": "what developers run",
}


def register_pack() -> None:
    """Make the repository importable as package `personalize`, wherever it lies.

    It never goes on sys.path itself: our `nodes` would hide the host's. Neither does the folder of
    the script that was started, whose modules have everyday names.
    """
    hidden = {ROOT, *(ROOT / folder for folder in FOLDERS)}
    sys.path[:] = [p for p in sys.path if p and Path(p).resolve() not in hidden]
    spec = importlib.util.spec_from_file_location(
        "personalize", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec is not None and spec.loader is not None
    pack = importlib.util.module_from_spec(spec)
    sys.modules["personalize"] = pack
    spec.loader.exec_module(pack)


def commands() -> dict[str, dict[str, str]]:
    """Folder -> module of each of its commands, dotted from the root -> its line."""
    return {
        folder: dict(_commands_in(ROOT / folder)) for folder in FOLDERS if (ROOT / folder).is_dir()
    }


def _commands_in(folder: Path, depth: int = 1) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.iterdir()):
        if path.suffix == ".py" and path != Path(__file__).resolve():
            yield from _command(path, path.with_suffix(""))
        elif path.is_dir() and depth:
            package = dict(_command(path / "__init__.py", path))
            yield from package.items() if package else _commands_in(path, depth - 1)


def _command(file: Path, module: Path) -> Iterator[tuple[str, str]]:
    """The command of a file, if it has one; nothing of it is imported."""
    tree = ast.parse(file.read_text(encoding="utf-8")) if file.is_file() else ast.Module([], [])
    names = {
        name
        for node in tree.body
        for name in (
            [node.name] if isinstance(node, ast.FunctionDef)
            else [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom)
            else []
        )
    }  # fmt: skip
    line = (ast.get_docstring(tree) or "").partition("\n")[0]
    if "main" in names:
        yield ".".join(module.relative_to(ROOT).parts), line


def listing() -> str:
    """All commands by folder, a line each."""
    lines = []
    for folder, found in commands().items():
        lines += [f"{folder}: {FOLDERS[folder]}"]
        lines += [f"  {name_of(module):<16} {line}" for module, line in found.items()]
    if (ROOT / "miniature").is_dir():
        lines += ["", "The miniature's own commands are modules: see miniature/MODEL_CARD.md."]
    return "\n".join(lines)


def name_of(module: str) -> str:
    return module.rpartition(".")[2]


def main(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(f"{(__doc__ or '').partition('. ')[0]}.\n\n{listing()}")
        return 0
    name, *rest = arguments
    found = [m for group in commands().values() for m in group if name_of(m) == name]
    if not found:
        print(f"There is no command {name!r}. Without a name they are listed.", file=sys.stderr)
        return 2
    register_pack()
    command = importlib.import_module(f"personalize.{found[0]}")
    try:
        return command.main(rest)
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130
    except Exception as error:
        if not _is_a_sentence(error):
            raise
        print(error, file=sys.stderr)
        return 1


def _is_a_sentence(error: Exception) -> bool:
    """Does it say what was expected and what to do? Of any other error the whole trace is shown."""
    host = importlib.import_module("personalize.cli.comfyui").HostError
    ours = importlib.import_module("personalize.concepts.errors").PersonalizeError
    return isinstance(error, (host, ours))


def show_what_can_be_shown() -> None:
    """Let a console, or a file with another encoding, show a question mark for what it lacks: on
    Windows a command would end with the name of a folder that cp1252 does not have."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


if __name__ == "__main__":
    show_what_can_be_shown()
    sys.exit(main(sys.argv[1:]))
