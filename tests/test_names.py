"""One public name, one meaning: no two modules of the pack define the same one."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from personalize.tests.test_imports import ROOT, pack_folders, sources

TWICE = {
    "ALIASES": "of a module's nodes: what else people call them in the host's search",
    "CATEGORY": "of a module's nodes: where the host's menu has them",
    "PRESETS": "of a method: settings that go together, by the name that its node shows",
    "ROOT": "cli/run.py starts as a script, before anything of the pack can be imported",
    "main": "of each command: what cli/run.py calls",
}
"""Names that mean the same thing wherever they stand, and why each module has its own."""


def public_names(path: Path) -> Iterator[str]:
    """What a module defines at its top for others; not what it imports."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            parts = (part for target in targets for part in ast.walk(target))
            names = [part.id for part in parts if isinstance(part, ast.Name)]
        else:
            names = []
        yield from (name for name in names if not name.startswith("_"))


def test_no_public_name_is_defined_twice() -> None:
    places: dict[str, set[str]] = defaultdict(set)
    for path in (path for folder in pack_folders() for path in sources(folder)):
        for name in public_names(path):
            places[name].add(path.relative_to(ROOT).as_posix())
    twice = {name: sorted(where) for name, where in places.items() if len(where) > 1}
    new = {name: where for name, where in twice.items() if name not in TWICE}
    assert not new, f"give one of them another name, or import it where it means the same: {new}"
    assert not set(TWICE) - set(twice), f"no longer there twice: {set(TWICE) - set(twice)}"
