"""What the graders of node packs say of the files that users get: make graders

comfy-cli (the registry's rules), comfy-import-guard (names of the host), comfy-test (its levels up
to validation) and comfy-lint (the examples), on a real server. They get an environment of their own
in ~/.cache/personalize-graders, which finds the host's packages in this one.

    python tools/run.py graders                     all of them
    python tools/run.py graders comfy-lint          some
    python tools/run.py graders --as-they-are       the last two without graders_read.py's copies
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..cli.comfyui import ROOT
from ..cli.workflows import SavedWorkflow, to_api
from .demo import PACKS
from .examples.files import put_files
from .examples.miniature_examples import base_for_examples
from .get_host import get_host
from .graders_read import for_comfy_lint, for_comfy_test
from .published import published
from .server.server import ComfyServer

PINS = (
    *("comfy-cli==1.23.0", "comfy-import-guard==1.3.0"),
    *("comfy-lint==0.1.0", "comfy-test==0.4.15"),
)
ENVIRONMENT = Path.home() / ".cache" / "personalize-graders"
OWN_FOLDERS = {"custom_nodes", "input", "models", "output", "temp", "user"}


@dataclass(frozen=True)
class Stage:
    """A ComfyUI with the published files of the pack in it, and a running server of it."""

    host: Path
    comfyui: Path  # links to the host, with folders of its own
    pack: Path  # comfyui/custom_nodes/personalize
    server: ComfyServer
    scratch: Path
    as_they_are: bool  # nothing is rewritten for a grader

    def run(self, tool: str, *arguments: str | Path) -> bool:
        """Run a grader in the pack's folder; it prints by itself. Did it pass?"""
        command = [_folder_of("scripts") / tool, *arguments]
        own = {"COMFY_TEST_LOGS_DIR": str(self.scratch), "TMPDIR": str(self.scratch)}
        done = subprocess.run(command, cwd=self.pack, env={**os.environ, **own})
        return done.returncode == 0


def copy_pack(target: Path) -> None:
    """The published files, as plain files: comfy-test follows no link to its ComfyUI."""
    for name in published():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target / name)


def link_host(host: Path, comfyui: Path) -> None:
    for entry in host.iterdir():
        if entry.name not in OWN_FOLDERS and not entry.name.startswith("."):
            (comfyui / entry.name).symlink_to(entry)


def install() -> None:
    """The graders, unless they are there. pip sees the host's packages and adds what they lack."""
    stamp, wanted = ENVIRONMENT / "installed.txt", "\n".join([sys.version, *PINS])
    if not stamp.is_file() or stamp.read_text() != wanted:
        print(f"installing the graders into {ENVIRONMENT}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", ENVIRONMENT], check=True)
        _see_this_environment()
        pip = [_folder_of("scripts") / "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *PINS], check=True)
        stamp.write_text(wanted)
    _see_this_environment()


def _see_this_environment() -> None:
    (_folder_of("purelib") / "host.pth").write_text(sysconfig.get_path("purelib"))


def _folder_of(kind: str) -> Path:
    return Path(sysconfig.get_path(kind, vars={"base": str(ENVIRONMENT)}))


def comfy_cli(stage: Stage) -> bool:
    return stage.run("comfy", "--skip-prompt", "--no-enable-telemetry", "node", "validate")


def comfy_import_guard(stage: Stage) -> bool:
    """It reads the host from a git repository: one of the host that is there, nothing cloned."""
    repository = stage.scratch / "guard" / "ComfyUI"
    git = ["git", "-C", repository, "-c", "user.name=-", "-c", "user.email=-"]
    subprocess.run(["git", "init", "--quiet", repository], check=True)
    for words in (
        ["config", "core.worktree", stage.host],
        ["add", "--all"],
        ["commit", "--quiet", "--no-gpg-sign", "--message", "host"],
    ):
        subprocess.run([*git, *words], check=True)
    options = ["--pack", stage.pack.name, "--target", "HEAD", "--offline", "--strict"]
    where = ["--comfy-dir", stage.comfyui, "--cache-dir", repository.parent]
    return stage.run("comfy-import-guard", "check", *where, *options)


def comfy_test(stage: Stage) -> bool:
    """It looks for workflows in `workflows` and for the server's log beside its own."""
    print("(it constructs no V3 nodes: tests/nodes/test_schemas.py does)", flush=True)
    shutil.copyfile(ROOT / "comfy-test.toml", stage.pack / "comfy-test.toml")
    shutil.copyfile(stage.server.log_path, stage.scratch / "server.log")
    info = stage.server.client.object_info()
    _tell_of_copies("the examples", for_comfy_test, stage)
    plain = stage.as_they_are
    _write(stage.pack / "workflows", lambda one: one if plain else for_comfy_test(one, info))
    return stage.run("comfy-test", "run", "--server-url", stage.server.base_url)


def comfy_lint(stage: Stage) -> bool:
    info = stage.server.client.object_info()
    _tell_of_copies("the nodes' schemas", for_comfy_lint, stage)
    schemas = stage.scratch / "object_info.json"
    schemas.write_text(json.dumps(info if stage.as_they_are else for_comfy_lint(info)))
    prompts = _write(stage.scratch / "prompts", lambda saved: to_api(saved, info))
    return stage.run("comfy-lint", "--strict", "--schema-cache", schemas, *prompts)


def _tell_of_copies(what: str, rewritten: Callable[..., object], stage: Stage) -> None:
    if not stage.as_they_are:
        print(f"({what}: copies by {rewritten.__name__} of tools/graders_read.py)", flush=True)


def _write(folder: Path, change: Callable[[SavedWorkflow], SavedWorkflow]) -> list[Path]:
    folder.mkdir()
    paths = []
    for example in sorted((ROOT / "example_workflows").glob("*.json")):
        paths.append(folder / example.name)
        paths[-1].write_text(json.dumps(change(json.loads(example.read_text(encoding="utf-8")))))
    return paths


GRADERS: dict[str, Callable[[Stage], bool]] = {
    "comfy-cli": comfy_cli,
    "comfy-import-guard": comfy_import_guard,
    "comfy-test": comfy_test,
    "comfy-lint": comfy_lint,
}


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="graders", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(GRADERS)}")
    parser.add_argument("--as-they-are", action="store_true", help="rewrite nothing for a grader")
    options = parser.parse_args(arguments)
    names = options.names or list(GRADERS)
    if unknown := set(names) - set(GRADERS):
        parser.error(f"no such grader: {', '.join(sorted(unknown))}")
    install()
    host = get_host()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder).resolve()
        comfyui = base_for_examples(scratch / "ComfyUI")
        pack = comfyui / "custom_nodes" / "personalize"
        copy_pack(pack)
        link_host(host, comfyui)
        put_files(comfyui)
        with ComfyServer(host, comfyui, {"miniature": PACKS["miniature"]}) as server:
            stage = Stage(host, comfyui, pack, server, scratch, options.as_they_are)
            failed = [name for name in names if not _passed(name, stage)]
    print(f"failed: {', '.join(failed)}" if failed else "all graders passed")
    return 1 if failed else 0


def _passed(name: str, stage: Stage) -> bool:
    print(f"== {name}", flush=True)
    return GRADERS[name](stage)
