"""Every file that is published is of the oldest Python that pyproject.toml names."""

import ast

import pytest
from personalize.tests.test_imports import ROOT, pack_folders, sources

OLDEST = (3, 10)
MODULES = {
    *("asyncio", "builtins", "contextlib", "datetime", "enum", "hashlib", "itertools", "typing"),
}
NEWER = {
    *("ExceptionGroup", "BaseExceptionGroup", "Self", "StrEnum", "tomllib", "TaskGroup", "UTC"),
    *("LiteralString", "Never", "assert_never", "assert_type", "reveal_type", "Required"),
    *("NotRequired", "Unpack", "TypeVarTuple", "dataclass_transform", "file_digest", "chdir"),
    *("batched", "override", "verify", "ReprEnum"),
}
"""Names that the standard library has since 3.11 or 3.12."""


def newer_names(tree: ast.AST) -> set[str]:
    """Names from the standard library of newer Pythons, imported or as attributes of a module."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=module, names=names) if module in MODULES:
                found |= {alias.name for alias in names}
            case ast.Import(names=names):
                found |= {alias.name for alias in names}
            case ast.Attribute(value=ast.Name(id=module), attr=name) if module in MODULES:
                found.add(name)
            case ast.Name(id="ExceptionGroup" | "BaseExceptionGroup" as name):
                found.add(name)
    return found & NEWER


def parsed(source: str) -> ast.AST:
    return ast.parse(source, feature_version=OLDEST)


def test_the_oldest_python_is_the_one_that_is_named():
    assert f'requires-python = ">={".".join(map(str, OLDEST))}"' in (
        ROOT / "pyproject.toml"
    ).read_text(encoding="utf-8")


@pytest.mark.parametrize("folder", ["", "cli", *pack_folders()])
def test_every_published_file_is_of_the_oldest_python(folder):
    files = sources(folder)
    assert files
    for path in files:
        tree = parsed(path.read_text(encoding="utf-8"))
        assert not newer_names(tree), path


@pytest.mark.parametrize(
    "source",
    ["try: pass\nexcept* OSError: pass", "type Numbers = list[int]", "def f[T](x: T): ..."],
)
def test_newer_syntax_is_refused(source):
    with pytest.raises(SyntaxError):
        parsed(source)


def test_newer_names_are_found():
    tree = parsed("from typing import Self\nimport tomllib\nimport enum\nenum.StrEnum")
    assert newer_names(tree) == {"Self", "tomllib", "StrEnum"}
