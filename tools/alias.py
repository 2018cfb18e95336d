"""The pack as `personalize`, and the host in this process, for scripts that are run as files.

The repository root never goes on sys.path: our `nodes` would hide the host's.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def register_pack() -> None:
    """Make the repository importable as package `personalize`, wherever it lies."""
    sys.path[:] = [p for p in sys.path if p and Path(p).resolve() != ROOT]
    spec = importlib.util.spec_from_file_location(
        "personalize", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec is not None and spec.loader is not None
    pack = importlib.util.module_from_spec(spec)
    sys.modules["personalize"] = pack
    spec.loader.exec_module(pack)


def prepare_host(
    cpu: bool = True,
    base_directory: Path | None = None,
    host: Path | None = None,
    options: Mapping[str, Any] | None = None,
) -> Path:
    """Make the modules of the host importable and return its checkout; nothing is imported yet.

    Its folders lie in base_directory, or in the checkout. options: more of its command line.
    Comes before any other import of it.
    """
    from personalize.tools.get_host import get_host

    host = host or get_host()
    sys.path.insert(0, str(host))
    from comfy.cli_args import args

    args.cpu = cpu
    args.base_directory = str(base_directory) if base_directory else None
    args.database_url = "sqlite:///:memory:"
    vars(args).update(options or {})
    return host
