"""Score pictures of a concept, and show the scores."""

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import torch
from comfy_api.latest import io, ui

from ..concepts.disk import write_new
from ..concepts.errors import EvaluationError, PersonalizeError
from ..evaluation.evaluate import (
    CLIP_VIEWS,
    DINO_VIEWS,
    IDENTITY,
    IDENTITY_VIEWS,
    Evaluation,
    PictureViews,
    count_pictures,
    evaluate,
    make_views,
)
from ..evaluation.features import CLIP_FILES, Extractor, load_clip, load_image_model, tell_files
from ..evaluation.pictures import Picture, prompts_of_pictures, read_pictures, with_masks
from ..evaluation.prompts import plain_prompt
from ..evaluation.report import draw_report
from ..evaluation.tables import TableFormat, as_json, as_table
from ..host.devices import on_device
from ..host.folders import (
    save_new,
    score_folders,
    score_model_path,
    score_models,
    scores_output,
)
from ..host.progress import NodeProgress, stop_if_cancelled
from ..pictures.images import single_pictures
from ..pictures.masks import MaskMarks, has_own_masks, read_masks
from .inputs import mask_marks_input
from .sockets import Node

NO_MODEL = "none"
CLIP, DINO = "CLIP", "DINO"
JUDGES = {
    CLIP: ("clip_folder", CLIP_VIEWS),
    DINO: ("dino_folder", DINO_VIEWS),
    IDENTITY: ("identity_folder", IDENTITY_VIEWS),
}
"""Of each model that scores: the input that names its folder, and what it looks at."""
ALIASES = [
    "personalize",
    "score",
    "metric",
    "clip score",
    "dino",
    "similarity",
    "benchmark",
    "identity",
    "face similarity",
    "likeness",
]


class EvaluateConcept(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        models = score_models()
        return io.Schema(
            node_id="PersonalizeEvaluate",
            display_name="Evaluate Concept",
            category="personalize/evaluate",
            description="Scores generated pictures: how well they follow the prompt (CLIP-T) and "
            "how much they are like the references (CLIP-I, DINO-I, with masks also of the subject "
            "alone). Models lie in models/clip_metrics; nothing is downloaded.",
            search_aliases=ALIASES,
            is_input_list=True,
            is_output_node=True,
            inputs=[
                io.Image.Input(
                    "generated", tooltip="Pictures to score, of any sizes, as a batch or a list."
                ),
                io.Image.Input(
                    "references",
                    tooltip="Real pictures of the subject, of any sizes, as a batch or a list.",
                ),
                io.String.Input(
                    "prompt", default="a photo of <my-dog>", multiline=True,
                    tooltip="What the pictures were made of: one prompt for all, or a list with "
                    "one a batch or a picture. The placeholder is read as the class word.",
                ),
                io.String.Input(
                    "class_word", default="dog",
                    tooltip="What the subject is, such as dog. It is scored in the placeholder's "
                    "place.",
                ),
                io.Combo.Input(
                    "clip_folder", options=models or [NO_MODEL],
                    tooltip="A CLIP in transformers' layout, a folder in models/clip_metrics.",
                ),
                io.Mask.Input(
                    "generated_masks", optional=True,
                    tooltip="White on the subject, one for each generated picture: adds the score "
                    "of the subject alone and the overall score, if the references have masks too.",
                ),
                io.Mask.Input(
                    "reference_masks", optional=True,
                    tooltip="White on the subject, one for each reference: adds the scores (FG).",
                ),
                io.Combo.Input(
                    "dino_folder", options=[NO_MODEL, *models], default=NO_MODEL, optional=True,
                    tooltip="A DINO in transformers' layout, a folder in models/clip_metrics: adds "
                    "DINO-I.",
                ),
                io.Combo.Input(
                    "identity_folder", options=[NO_MODEL, *models], default=NO_MODEL,
                    optional=True, advanced=True,
                    tooltip="Any image model whose embedding tells individuals apart, such as a "
                    "face recogniser in transformers' layout: adds the score identity.",
                ),
                io.String.Input(
                    "placeholder", default="", optional=True, advanced=True,
                    tooltip="The concept's placeholder, to be told when the prompt has another "
                    "one. Empty: whichever one the prompt has.",
                ),
                io.String.Input(
                    "filename", default="", optional=True,
                    tooltip="Also write the scores to output/scores, under this name. Empty: no "
                    "file.",
                ),
                io.Combo.Input(
                    "file_format", options=TableFormat, default=TableFormat.CSV, optional=True,
                    tooltip="csv: a row a picture, for spreadsheets. json: for programs.",
                ),
                mask_marks_input(),
            ],
            outputs=[
                io.String.Output(display_name="scores"),
                io.Image.Output(display_name="report"),
            ],
            hidden=[io.Hidden.unique_id],
        )  # fmt: skip

    @classmethod
    def run(cls, **lists: list[Any]) -> io.NodeOutput:
        values = {name: given[0] for name, given in lists.items() if given}
        notes: list[str] = []
        generated = _pictures(lists, "generated", "generated_masks", notes)
        references = _pictures(lists, "references", "reference_masks", notes)
        prompts = [
            plain_prompt(prompt, values["class_word"], values.get("placeholder", ""))
            for prompt in prompts_of_pictures(lists["prompt"], lists["generated"])
        ]
        judges = load_judges(values)
        views = make_views(generated, references)
        evaluation = score(views, prompts, judges, cls.hidden.unique_id)
        names = ", ".join(f"{judge} {extractor.name}" for judge, extractor in judges.items())
        sheet = draw_report(evaluation, generated, references, names)
        report = torch.from_numpy(np.asarray(sheet, dtype=np.float32) / 255.0)[None]
        files = _write(evaluation, values)
        if notes:
            NodeProgress(1, cls.hidden.unique_id).show_text(" ".join(notes))
        shown = {"scores": [as_json(evaluation)], "files": files}
        return io.NodeOutput(
            as_json(evaluation), report, ui={**ui.PreviewImage(report).as_dict(), **shown}
        )


def _pictures(
    lists: Mapping[str, list[Any]], images: str, masks: str, notes: list[str]
) -> list[Picture]:
    """Pictures with their masks: those that are connected, or what is opaque in cut-outs.

    notes: get what the user should know of the masks
    """
    pictures = read_pictures(lists[images], images.removesuffix("s"))
    whole = list(single_pictures(lists[images]))
    if not lists.get(masks) and not has_own_masks(whole):
        return with_masks(pictures, None)
    marks = MaskMarks(next(iter(lists.get("mask_marks", ())), MaskMarks.AUTO))
    try:
        read = read_masks(
            lists.get(masks, ()), whole, marks, lambda note: notes.append(f"{masks}: {note}")
        )
    except PersonalizeError as error:
        raise EvaluationError(f"{masks}: {error}") from error
    return with_masks(pictures, read)


def load_judges(values: Mapping[str, Any]) -> dict[str, Extractor]:
    """Extractors by the names of JUDGES, those whose folder is chosen."""
    if values["clip_folder"] == NO_MODEL:
        raise EvaluationError(
            f"There is no model to score with in {score_folders()}. Copy the files of a CLIP into "
            "a folder there, such as those of openai/clip-vit-large-patch14 into "
            f"clip-vit-large-patch14: {tell_files(CLIP_FILES)}. Then press R and choose it as "
            "clip_folder."
        )
    chosen = {judge: values.get(name, NO_MODEL) for judge, (name, _) in JUDGES.items()}
    return {
        judge: (load_clip if judge == CLIP else load_image_model)(score_model_path(folder))
        for judge, folder in chosen.items()
        if folder != NO_MODEL
    }


def score(
    views: PictureViews, prompts: list[str], judges: Mapping[str, Extractor], node_id: str | None
) -> Evaluation:
    """Every judge on the host's device, with progress and cancel."""
    total = sum(count_pictures(views, JUDGES[judge][1]) for judge in judges)
    progress, done = NodeProgress(total, node_id), 0

    def on_batch(count: int) -> None:
        nonlocal done
        stop_if_cancelled()
        done += count
        progress.update(done)

    with ExitStack() as stack:
        placed: dict[str, Any] = {
            judge: extractor.at(stack.enter_context(on_device(extractor.module)), on_batch)
            for judge, extractor in judges.items()
        }
        return evaluate(
            views, prompts, clip=placed[CLIP], dino=placed.get(DINO), identity=placed.get(IDENTITY)
        )


def _write(evaluation: Evaluation, values: Mapping[str, Any]) -> list[str]:
    """The table in the output folder, if a name is given; the paths that were written."""
    if not values.get("filename", "").strip():
        return []
    kind = TableFormat(values.get("file_format", TableFormat.CSV))
    save = partial(write_new, as_table(evaluation, kind).encode())
    return [str(save_new(scores_output(), values["filename"], save, f".{kind.value}"))]
