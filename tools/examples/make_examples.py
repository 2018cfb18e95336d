"""Write example_workflows/ and the miniature's own anew, as a running server describes the nodes.

    python tools/run.py make_examples

Run it after an input was added to a node. What they are stands in templates.py, the words in
notes.py, the places in example.py.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ...cli.comfyui import ROOT
from ...cli.workflows import ObjectInfo
from ..demo import PACKS
from ..get_host import get_host
from ..server.server import ComfyServer, make_base_directory
from .example import Draft, laid_out
from .miniature_examples import can_run, on_miniature
from .saved_examples import saved_workflow
from .templates import TEMPLATES, WORD

FOLDER = ROOT / "example_workflows"
MINIATURE = PACKS["miniature"] / "example_workflows"


def drafts() -> dict[Path, Draft]:
    """All templates by file. Those of the miniature belong to its own pack: users have none."""
    small = (on_miniature(draft) for draft in (*TEMPLATES, WORD) if not draft.shown_by)
    return {
        **{FOLDER / f"{draft.name}.json": draft for draft in TEMPLATES},
        **{MINIATURE / f"{draft.name}.json": draft for draft in small if can_run(draft)},
    }


def written(draft: Draft, info: ObjectInfo) -> str:
    """A template as its file has it."""
    saved = saved_workflow(laid_out(draft), info)
    return json.dumps(saved, indent=1, ensure_ascii=False) + "\n"


def main(arguments: Sequence[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        base = make_base_directory(Path(folder))
        with ComfyServer(get_host(), base, PACKS) as server:
            info = server.client.object_info()
    for path, draft in drafts().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(written(draft, info), encoding="utf-8")
        print(path.relative_to(ROOT))
    return 0
