"""Some templates again, set for Stable Diffusion XL: other checkpoint, size, presets and notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from . import notes
from .example import Draft, Node

SIZE = 1024
SAMPLING = {"steps": 30, "cfg": 6.0, "sampler_name": "dpmpp_2m", "scheduler": "karras"}
"""As SDXL is drawn with: the papers have no setting for it."""

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "CheckpointLoaderSimple": {"ckpt_name": notes.CHECKPOINT_XL},
    "EmptyLatentImage": {"width": SIZE, "height": SIZE},
    "KSampler": SAMPLING,
    "PersonalizeTrainCrossInit": {"preset": "sdxl"},
    "PersonalizeTrainDETEX": {"preset": "sdxl"},
}


def on_sdxl(draft: Draft, name: str, told: Sequence[str], file: str) -> Draft:
    """The same nodes and connections for SDXL.

    told: the notes of the columns that say something else than the draft's, from the first on, and
        of the last; file: what is saved, in the place of the draft's own
    """
    *first, last = told
    columns = list(draft.columns)
    notes_of = [*first, *(column.note for column in columns[len(first) : -1]), last]

    def large(node: Node) -> Node:
        changed = {**node.widgets, **SETTINGS.get(node.kind, {})}
        if node.widgets.get("ckpt_name") == notes.SAM3:
            changed = dict(node.widgets)
        if "filename" in changed:
            changed["filename"] = file
        if "filename_prefix" in changed:
            changed["filename_prefix"] = f"personalize/{file}"
        return replace(node, widgets=changed)

    return Draft(
        name,
        [
            replace(
                column,
                note=note,
                stacks=[{k: large(n) for k, n in stack.items()} for stack in column.stacks],
            )
            for column, note in zip(columns, notes_of, strict=True)
        ],
        shown_by=draft.name,
    )
