"""The direction of imports in DESIGN.md: each folder may import only what stands beside it here."""

import ast
import importlib.metadata
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

ENGINE = {"torch", "safetensors", "numpy", "PIL"}
HOST = {
    *("comfy", "comfy_execution", "comfyui_version", "folder_paths"),
    *("latent_preview", "node_helpers", "server"),
}
API = {"comfy_api"}
REQUIRED = {"segment_anything": "segment-anything"}  # what requirements.txt adds to the host
NAMED = {"einops"}  # what comes with the host and is named there, too

# folder of the pack -> (folders of the pack, third-party packages) that it may import
MAY_IMPORT: dict[str, tuple[set[str], set[str]]] = {
    "": ({"host", "nodes", "version"}, API),
    "version": (set(), set()),
    "concepts": (set(), {"torch", "safetensors"} | NAMED),
    "pictures": ({"concepts"}, ENGINE | NAMED | {"scipy"}),
    "segment": ({"concepts", "host", "pictures"}, ENGINE),
    "host": (
        {"concepts", "version"},
        ENGINE | HOST | NAMED | {"transformers"} | set(REQUIRED),
    ),
    "training": ({"concepts", "host", "pictures", "version"}, ENGINE | NAMED),
    "samplers": ({"concepts", "host"}, ENGINE | NAMED),
    "evaluation": ({"concepts", "pictures"}, ENGINE | {"transformers"}),
    "cli": (
        {"concepts", "host", "pictures", "samplers", "training"},
        ENGINE | {"accelerate", "aiohttp", "comfy"},
    ),
    "nodes": (
        {
            *("concepts", "host", "pictures", "version"),
            *("training", "samplers", "segment", "evaluation"),
        },
        ENGINE | API | {"typing_extensions", "aiohttp"},
    ),
}


@dataclass(frozen=True)
class Import:
    """One imported name: `module` is dotted; `pack` tells a relative import, from the root."""

    line: int
    module: str
    pack: bool
    lazy: bool  # inside a function

    @property
    def top(self) -> str:
        return self.module.split(".")[0]


def sources(folder: str) -> list[Path]:
    if folder == "":
        return [ROOT / "__init__.py"]
    path = ROOT / folder
    return sorted(path.rglob("*.py")) if path.is_dir() else [ROOT / f"{folder}.py"]


def imports(path: Path) -> Iterator[Import]:
    """Imports of a file; those for type checkers only are left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = list(path.relative_to(ROOT).parent.parts)
    yield from _imports(tree, package, lazy=False)


def _imports(node: ast.AST, package: list[str], lazy: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import):
            for name in child.names:
                yield Import(child.lineno, name.name, False, lazy)
        elif isinstance(child, ast.ImportFrom):
            yield from _from(child, package, lazy)
        else:
            inside = lazy or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            yield from _imports(child, package, inside)


def _from(node: ast.ImportFrom, package: list[str], lazy: bool) -> Iterator[Import]:
    if node.level == 0:
        yield Import(node.lineno, node.module or "", False, lazy)
        return
    base = package[: len(package) - node.level + 1]
    for name in node.names:
        parts = [*base, *(node.module.split(".") if node.module else []), name.name]
        yield Import(node.lineno, ".".join(parts), True, lazy)


def pack_folders() -> list[str]:
    """Folders and modules of the pack, as a user gets it."""
    ignored = {
        line.strip("/\n")
        for line in (ROOT / ".comfyignore").read_text().splitlines()
        if line.endswith("/")
    }
    folders = [p.name for p in ROOT.iterdir() if p.is_dir() and any(p.rglob("*.py"))]
    modules = [p.stem for p in ROOT.glob("*.py") if p.stem != "__init__"]
    return sorted(n for n in folders + modules if n not in ignored and not n.startswith("."))


def test_every_folder_of_the_pack_has_a_rule() -> None:
    unknown = set(pack_folders()) - set(MAY_IMPORT)
    assert not unknown, f"add these to MAY_IMPORT, with what they may import: {sorted(unknown)}"


@pytest.mark.parametrize("folder", sorted(MAY_IMPORT))
def test_imports_go_one_way(folder: str) -> None:
    own, others = MAY_IMPORT[folder]
    own = own | {folder}
    others = others | set(sys.stdlib_module_names)
    wrong = []
    for path in sources(folder) if folder == "" or folder in pack_folders() else []:
        for found in imports(path):
            where = f"{path.relative_to(ROOT)}:{found.line}"
            if found.pack and found.top not in own:
                wrong.append(f"{where} imports {found.module} of the pack")
            elif not found.pack and found.top in pack_folders():
                wrong.append(f"{where} imports {found.module} absolutely; write it relatively")
            elif not found.pack and found.top not in others:
                wrong.append(f"{where} imports {found.module}")
    assert not wrong, (
        f"{folder or 'The root'} may import {sorted(own - {folder})} of the pack and "
        f"{sorted(others - set(sys.stdlib_module_names))} beside the standard library. But:\n"
        + "\n".join(wrong)
    )


METHODS_MODULES = {"methods", "elite", "elite_files", "differences", "residuals"}
METHODS_MODULES |= {"residual_attention", "concept"}


def test_host_knows_no_method() -> None:
    """What a method means stands in concepts, training and samplers, which hand it to the host."""
    wrong = [
        f"{path.relative_to(ROOT)}:{found.line} imports {found.module}"
        for path in sources("host")
        for found in imports(path)
        if found.top == "concepts" and found.module.split(".")[1] in METHODS_MODULES
    ]
    assert not wrong, wrong


PRIVATE_SHAPES = (
    *("cond_or_uncond", "model_conds", "c_crossattn", "cross_attn", "transformer_options"),
    *("patches_replace", "encode_token_weights", "_try_get_embedding", "embedding_directory"),
    *("get_key_patches", "add_patches", "add_object_patch", "get_model_object", "model_sampling"),
    *("cond_stage_model", "diffusion_model"),
)
"""Names of the host's own that may change with its version."""


@pytest.mark.parametrize(
    "folder", ["nodes", "cli", "training", "samplers", "segment", "evaluation"]
)
def test_only_host_knows_the_hosts_shapes(folder: str) -> None:
    pattern = re.compile(r"(?<!\w)(" + "|".join(PRIVATE_SHAPES) + r")(?!\w)")
    wrong = [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in sources(folder)
        if (match := pattern.search(path.read_text(encoding="utf-8")))
    ]
    assert not wrong, f"ask a module of host/ instead: {wrong}"


def test_the_root_imports_nothing_before_the_host_asks() -> None:
    early = [found.module for found in imports(ROOT / "__init__.py") if not found.lazy]
    assert not early, f"__init__.py imports {early} at its top; import inside comfy_entrypoint"


def test_no_module_changes_what_python_can_import() -> None:
    """ruff refuses `exec` and `eval`; this refuses sys.path.

    Commands are started outside of the host: they alone must say where it is.
    """
    wrong = [
        str(path.relative_to(ROOT))
        for folder in ("", *pack_folders())
        if folder != "cli"
        for path in sources(folder)
        if "sys.path" in path.read_text(encoding="utf-8")
    ]
    assert not wrong, f"these touch sys.path: {wrong}"


def test_third_party_packages_come_with_the_host() -> None:
    """The host must require all that the pack imports and requirements.txt does not name."""
    host = importlib.metadata.packages_distributions()
    shipped = {
        *("torch", "numpy", "Pillow", "safetensors", "scipy", "transformers", "einops"),
        *("aiohttp", "typing_extensions"),
    }
    for name in ENGINE | NAMED | {"scipy", "transformers", "typing_extensions", "aiohttp"}:
        names = {distribution.replace("-", "_").lower() for distribution in host.get(name, [])}
        assert names & {package.replace("-", "_").lower() for package in shipped}, name


def test_what_the_host_lacks_is_required_and_imported_late() -> None:
    """Late, since it brings torchvision along, which takes seconds."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    required = {re.split("[<>= ]", line)[0] for line in lines if line and not line.startswith("#")}
    assert required == set(REQUIRED.values()) | NAMED
    early = [
        f"{path.relative_to(ROOT)}:{found.line}"
        for folder in pack_folders()
        for path in sources(folder)
        for found in imports(path)
        if found.top in {*REQUIRED, "scipy"} and not found.pack and not found.lazy
    ]
    assert not early, f"import these inside the function that needs them: {early}"


def test_requirements_are_the_same_in_both_places() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = ast.literal_eval(text.split("\ndependencies = ")[1].split("]")[0] + "]")
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert listed == [line for line in lines if line and not line.startswith("#")]


def test_version_is_the_same_in_both_places() -> None:
    version: dict[str, str] = {}
    tree = ast.parse((ROOT / "version.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Assign):
            version[ast.unparse(node.targets[0])] = ast.literal_eval(node.value)
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nversion = "{version["__version__"]}"\n' in text
