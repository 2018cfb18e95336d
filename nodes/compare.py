"""Draw several concepts, or several strengths of one, with the same prompts, as a labelled grid."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ..concepts.concept import Concept
from ..evaluation.evaluate import (
    CLIP_I,
    CLIP_T,
    GENERATED,
    Evaluation,
    PictureViews,
    make_views,
)
from ..evaluation.pictures import read_pictures, with_masks
from ..evaluation.prompts import plain_prompt
from ..host.base_models import base_of_model
from ..host.folders import score_models
from ..host.progress import NodeProgress
from ..host.sampling import SAMPLERS, SCHEDULERS, text_to_image
from ..pictures.grid import labelled_grid
from ..samplers.apply import apply_concept
from ..samplers.comparison import ComparisonRow, check_size, read_lines, read_strengths, rows_of
from .evaluate import NO_MODEL, load_judges, score
from .inputs import ConceptSocket
from .sockets import Node

MOST_CONCEPTS = 20
ALIASES = [
    "personalize",
    "compare",
    "grid",
    "xy plot",
    "plot",
    "contact sheet",
    "strength",
    "face",
    "style",
    "lora",
]


class CompareConcepts(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        concepts = io.Autogrow.TemplatePrefix(
            ConceptSocket.Input("concept"), prefix="concept", min=1, max=MOST_CONCEPTS
        )
        return io.Schema(
            node_id="PersonalizeCompare",
            display_name="Compare Concepts",
            category="personalize/evaluate",
            description="Draws every concept, at every strength, with every prompt and the same "
            "noise, as one labelled grid: which concept, which strength, which training is best.",
            search_aliases=ALIASES,
            is_input_list=True,
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="The MODEL, without the concepts."),
                io.Clip.Input("clip", tooltip="The CLIP of the same checkpoint."),
                io.Vae.Input("vae", tooltip="The VAE of the same checkpoint."),
                io.Autogrow.Input(
                    "concepts", template=concepts,
                    tooltip="The concepts to compare, each in rows of its own. Another socket "
                    "appears for the next one.",
                ),
                io.String.Input(
                    "prompts", default="a photo of {}\na photo of {} on the beach", multiline=True,
                    tooltip="One prompt a line, each a column: {} is the concept, {class} its "
                    "class word.",
                ),
                io.String.Input(
                    "strengths", default="1",
                    tooltip="One strength, or several with commas, each in rows of its own: 0.5, 1",
                ),
                io.Int.Input(
                    "sample_seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=False,
                    tooltip="Of the noise that all pictures begin with.",
                ),
                io.Int.Input(
                    "steps", default=20, min=1, max=1000, tooltip="Sampling steps of a picture."
                ),
                io.Float.Input(
                    "cfg", default=7.0, min=0.0, max=100.0, step=0.1, round=0.01,
                    tooltip="How firmly the pictures follow the prompt.",
                ),
                io.String.Input(
                    "negative", default="", multiline=True, optional=True, advanced=True,
                    tooltip="What the pictures should not show.",
                ),
                io.Int.Input(
                    "resolution", default=0, min=0, max=2048, step=8, optional=True, advanced=True,
                    tooltip="Side of a picture in pixels. 0: what the base model was made for.",
                ),
                io.Combo.Input(
                    "sampler_name", options=SAMPLERS, default="euler", optional=True,
                    advanced=True, tooltip="The host's sampler.",
                ),
                io.Combo.Input(
                    "scheduler", options=SCHEDULERS, default="normal", optional=True,
                    advanced=True, tooltip="The host's scheduler.",
                ),
                io.Image.Input(
                    "references", optional=True,
                    tooltip="Real pictures of the subject: with clip_folder, each picture is told "
                    "how much it is like them (CLIP-I).",
                ),
                io.Combo.Input(
                    "clip_folder", options=[NO_MODEL, *score_models()], default=NO_MODEL,
                    optional=True,
                    tooltip="A CLIP in models/clip_metrics, which tells of each picture how well "
                    "it follows the prompt (CLIP-T).",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="report"),
                io.Image.Output(display_name="images"),
            ],
            hidden=[io.Hidden.unique_id],
        )  # fmt: skip

    @classmethod
    def run(cls, concepts: Mapping[str, list[Concept]], **lists: list[Any]) -> io.NodeOutput:
        references = lists.pop("references", [])
        values = {name: given[0] for name, given in lists.items() if given}
        connected = [concept for given in concepts.values() for concept in given]
        rows = rows_of(connected, read_strengths(values["strengths"]))
        lines = read_lines(values["prompts"])
        check_size(rows, lines)
        judges = load_judges(values) if values.get("clip_folder", NO_MODEL) != NO_MODEL else {}
        progress = NodeProgress(len(rows) * len(lines), cls.hidden.unique_id)
        images = torch.cat(list(_drawn(rows, lines, values, progress)))
        captions: list[str] = []
        if judges:
            plain = [_plain(row, line) for row in rows for line in lines]
            views = _views(images, references)
            captions = captions_of(score(views, plain, judges, cls.hidden.unique_id))
        report = labelled_grid(images, [row.label for row in rows], lines, captions)
        return io.NodeOutput(report, images, ui=ui.PreviewImage(report))


def _drawn(
    rows: Sequence[ComparisonRow],
    lines: Sequence[str],
    values: Mapping[str, Any],
    progress: NodeProgress,
) -> Iterator[Tensor]:
    """Each picture (1, side, side, 3), row by row."""
    model, clip, vae = values["model"], values["clip"], values["vae"]
    side = values.get("resolution") or base_of_model(model).resolution(model)
    prompts = [[row.prompt(line) for line in lines] for row in rows]  # refuses before it draws
    done = 0
    for row, texts in zip(rows, prompts, strict=True):
        patched = apply_concept(model, clip, row.concept, row.strength)
        for text in texts:
            picture = text_to_image(
                *patched,
                vae,
                text,
                side,
                negative=values.get("negative", ""),
                seed=values["sample_seed"],
                steps=values["steps"],
                cfg=values["cfg"],
                sampler=values.get("sampler_name", "euler"),
                scheduler=values.get("scheduler", "normal"),
            )
            done += 1
            progress.update(done)
            yield picture


def _plain(row: ComparisonRow, line: str) -> str:
    """The prompt with the class word for the concept, whose name CLIP does not know."""
    concept = row.concept
    class_word = concept.class_word or "subject"
    return plain_prompt(row.prompt(line), class_word, concept.placeholder, concept.class_words)


def _views(images: Tensor, references: Sequence[Tensor]) -> PictureViews:
    """What the judges look at; without references they compare pictures with prompts alone."""
    generated = with_masks(read_pictures([images], "generated"), None)
    if not references:
        return {GENERATED: [picture.image for picture in generated]}
    return make_views(generated, with_masks(read_pictures(references, "reference"), None))


def captions_of(evaluation: Evaluation) -> list[str]:
    """A line of scores for each picture."""
    shown = [name for name in (CLIP_T, CLIP_I) if name in evaluation.per_picture]
    return [
        "  ".join(f"{name} {evaluation.per_picture[name][number]:.3f}" for name in shown)
        for number in range(len(evaluation.prompts))
    ]
