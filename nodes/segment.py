"""Masks of the subject by Segment Anything."""

from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from typing import Any

import torch
from comfy_api.latest import io, ui

from ..concepts.disk import Stamp, stamp
from ..concepts.errors import PersonalizeError
from ..host.folders import sam_names, sam_path
from ..host.progress import NodeProgress, stop_if_cancelled
from ..host.sam import load_sam
from ..segment.overlay import draw_overlay, draw_sheet
from ..segment.prompt import SegmentPrompt
from ..segment.segmentation import Choice, Finish, Segmented, segment_pictures, tidy_masks
from .inputs import mask_marks_input, mask_marks_of
from .sockets import Node

SamSocket = io.Custom("SAM_MODEL")

CATEGORY = "personalize/masks"
ALIASES = [
    "personalize",
    "sam",
    "segment anything",
    "mask",
    "cut out",
    "background",
    "subject",
    "remove background",
    "rembg",
    "person",
    "face",
]


class LoadSAM(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PersonalizeLoadSAM",
            display_name="Load SAM",
            category=CATEGORY,
            description="Loads a Segment Anything model: SAM's ViT-B, ViT-L, ViT-H or a fine-tuned "
            "one, or a SAM 2 or 2.1. Files lie in models/sams, where other packs keep them too.",
            search_aliases=ALIASES,
            inputs=[
                io.Combo.Input(
                    "sam_name", options=sam_names(),
                    tooltip="A .pth or .safetensors, such as sam_vit_b_01ec64.pth. Its size is "
                    "read from its content. Press R after you put a file there.",
                ),
            ],
            outputs=[SamSocket.Output(display_name="sam_model")],
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, sam_name: str) -> Stamp:
        return stamp(sam_path(sam_name))

    @classmethod
    def run(cls, sam_name: str) -> io.NodeOutput:
        return io.NodeOutput(load_sam(sam_path(sam_name)))


class SegmentSubject(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        finish = Finish()
        return io.Schema(
            node_id="PersonalizeSegmentSubject",
            display_name="Segment Subject",
            category=CATEGORY,
            description="Finds the subject of each picture and gives its mask, or tidies a mask. "
            "Without a prompt it looks for one subject in the middle; points and a box say what "
            "else is meant.",
            search_aliases=ALIASES,
            is_input_list=True,
            inputs=[
                io.Image.Input(
                    "image",
                    tooltip="One or more pictures, as a batch or a list; each gets its mask.",
                ),
                SamSocket.Input(
                    "sam_model", optional=True,
                    tooltip="A model, from Load SAM. Not needed where there are masks already.",
                ),
                io.String.Input(
                    "points", default="", optional=True,
                    tooltip="Points on the subject: x, y in pixels or per cent, with a semicolon "
                    "between points, such as 120, 80; 50%, 30%. Or what a points editor gives. "
                    "Empty: the middle of the picture, unless there is a box.",
                ),
                io.String.Input(
                    "box", default="", optional=True,
                    tooltip="A box around the subject: left, top, right, bottom in pixels or per "
                    "cent, such as 10%, 10%, 90%, 90%. Empty: none.",
                ),
                io.String.Input(
                    "negative_points", default="", optional=True,
                    tooltip="Points on what does not belong to the subject, written as points.",
                ),
                io.Combo.Input(
                    "candidate", options=Choice, default=finish.candidate, optional=True,
                    tooltip="Which of SAM's three candidates is the mask; the preview shows them, "
                    "from a part to the whole as a rule. best chooses for you.",
                ),
                io.Boolean.Input(
                    "largest_part", default=finish.largest_part, optional=True,
                    tooltip="Keep the largest part of the mask only. Off, when something in front "
                    "cuts the subject in two.",
                ),
                io.Float.Input(
                    "fill_holes", default=finish.fill_holes, min=0.0, max=1.0, step=0.01,
                    round=0.001, optional=True,
                    tooltip="Fill holes up to this part of the subject's area. 0: none; 1: all, "
                    "such as that in the handle of a mug.",
                ),
                io.Int.Input(
                    "grow", default=finish.grow, min=-512, max=512, optional=True,
                    tooltip="Move the edge outwards by this many pixels, inwards when negative.",
                ),
                io.Int.Input(
                    "soften", default=finish.soften, min=0, max=512, optional=True,
                    tooltip="Let the edge fade over this many pixels. 0: a hard edge.",
                ),
                io.Mask.Input(
                    "mask", optional=True,
                    tooltip="Masks that are there already, one for each picture: they are tidied "
                    "as largest_part, fill_holes, grow and soften say, and no model is asked.",
                ),
                mask_marks_input(),
            ],
            outputs=[
                io.Mask.Output(
                    display_name="mask", is_output_list=True,
                    tooltip="White on the subject: for each batch of pictures one of masks.",
                ),
                io.Mask.Output(
                    display_name="candidates", is_output_list=True,
                    tooltip="SAM's three candidates as they are, a batch of three a picture.",
                ),
                io.Image.Output(
                    display_name="overlay", is_output_list=True,
                    tooltip="Each picture, dark where the mask is not, with the prompt on it.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )  # fmt: skip

    @classmethod
    def run(cls, **lists: list[Any]) -> io.NodeOutput:
        given = {f.name: lists[f.name][0] for f in fields(Finish) if f.name in lists}
        given["candidate"] = Choice(given.get("candidate", Choice.BEST))
        finish = Finish(**given)
        notes: list[str] = []
        if lists.get("mask"):
            marks = mask_marks_of({name: given[0] for name, given in lists.items() if given})
            batches = tidy_masks(
                lists["image"], lists["mask"], finish=finish, marks=marks, warn=notes.append
            )
        else:
            batches = cls._segmented(lists, finish)
        batches = [batch for batch in batches if batch]
        results = [result for batch in batches for result in batch]
        text = " ".join([_summary(results), *notes])
        NodeProgress(1, cls.hidden.unique_id).show_text(text)
        sheets = [draw_sheet(result) for result in results]
        return io.NodeOutput(
            [torch.stack([result.mask for result in batch]) for batch in batches],
            [torch.cat([result.candidates for result in batch]) for batch in batches],
            [torch.stack([draw_overlay(result) for result in batch]) for batch in batches],
            ui=ui.PreviewImage(sheets),  # pyright: ignore[reportArgumentType] - a list does
        )

    @classmethod
    def _segmented(cls, lists: Mapping[str, list[Any]], finish: Finish) -> list[list[Segmented]]:
        """What a model finds."""
        model = next(iter(lists.get("sam_model") or ()), None)
        if model is None:
            raise PersonalizeError(
                "There is neither a model nor a mask. Connect Load SAM as sam_model to find the "
                "subject, or a mask to tidy."
            )
        texts = [lists.get(name) or [""] for name in ("points", "negative_points", "box")]
        prompts = [
            SegmentPrompt.parse(*(text[min(n, len(text) - 1)] for text in texts))
            for n in range(max(map(len, texts)))
        ]
        report = partial(_report, cls.hidden.unique_id)
        return segment_pictures(model, lists["image"], prompts, finish=finish, report=report)


def _report(node_id: str | None, done: int, total: int) -> None:
    stop_if_cancelled()
    progress = NodeProgress(total, node_id)
    progress.update(done)
    progress.show_text(f"{done} of {total} pictures")


def _summary(results: list[Segmented]) -> str:
    empty = [str(n + 1) for n, result in enumerate(results) if not result.area]
    if empty:
        return (
            f"nothing was found in picture {', '.join(empty)}: put a point on the subject, or "
            "choose another candidate"
        )
    return "the mask covers " + ", ".join(f"{result.area:.0%}" for result in results)
