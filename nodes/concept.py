"""Load, save and apply concepts."""

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ..concepts.cards import card_of
from ..concepts.concept import Concept
from ..concepts.differences import compressed
from ..concepts.disk import Stamp, stamp
from ..concepts.elite import EncoderReference, encoder_reference
from ..concepts.elite_files import find_encoder
from ..concepts.errors import ConceptFileError, DiskError, shown
from ..concepts.files import (
    check_embedding,
    describe_concept,
    files_of,
    load_concept,
    save_concept,
    save_embedding,
)
from ..concepts.methods import Part
from ..host.browsers import CONCEPTS_CHANGED, tell_browsers
from ..host.card_pictures import is_taken, write_pictures
from ..host.folders import (
    concept_names,
    concept_path,
    concepts_output,
    elite_folders,
    elite_names,
    elite_path,
    embeddings_folder,
    name_in_prompts,
    save_new,
)
from ..host.progress import NodeProgress
from ..host.shelf import is_taken_on_shelf
from ..samplers.apply import apply_concept
from ..samplers.local_attention import Details
from .inputs import SUBJECT_WORDS, ConceptSocket
from .sockets import Node

CATEGORY = "personalize/concept"
ALIASES = [*SUBJECT_WORDS, "embedding", "textual inversion"]


class LoadConcept(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PersonalizeLoadConcept",
            display_name="Load Concept",
            category=CATEGORY,
            description="Loads a concept, or an embedding of another program as one. Files lie in "
            "models/concepts, output/concepts and models/embeddings.",
            search_aliases=ALIASES,
            inputs=[
                io.Combo.Input(
                    "concept_name", options=concept_names(),
                    tooltip="A saved concept, or a stock embedding (embedding:...).",
                ),
                io.String.Input(
                    "placeholder", default="", optional=True,
                    tooltip="Gives the concept another placeholder. Empty: its own.",
                ),
                io.String.Input(
                    "class_word", default="", optional=True,
                    tooltip="Says what the subject is, such as dog. Empty: what the file says. "
                    "Files of other programs do not say it.",
                ),
                io.String.Input(
                    "token", default="", optional=True, advanced=True,
                    tooltip="Which concept to take of a file of another program that holds "
                    "several, such as <cat-toy>. Empty: the only one.",
                ),
            ],
            outputs=[ConceptSocket.Output(display_name="concept")],
            hidden=[io.Hidden.unique_id],
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(
        cls, concept_name: str, placeholder: str = "", class_word: str = "", token: str = ""
    ) -> tuple[str, str, str, list[Stamp]]:
        files = files_that_decide(concept_path(concept_name), concept_name, token)
        return placeholder, class_word, token, [stamp(file) for file in files]

    @classmethod
    def run(
        cls, concept_name: str, placeholder: str = "", class_word: str = "", token: str = ""
    ) -> io.NodeOutput:
        concept = load_concept(concept_path(concept_name), concept_name, token)
        left_out = concept.training.get("left_out")
        if isinstance(left_out, list) and left_out:
            note = f"{concept_name} was loaded without {', '.join(map(shown, left_out))}"
            logging.warning(note)
            NodeProgress(1, cls.hidden.unique_id).show_text(note)
        changes = {"placeholder": placeholder.strip(), "class_word": class_word.strip()}
        concept = replace(concept, **{k: v for k, v in changes.items() if v})
        return io.NodeOutput(with_encoder(concept), ui=shown_card(concept))


def shown_card(concept: Concept) -> dict[str, list[dict[str, Any]]]:
    """What a node tells the browser of its concept."""
    return {"concept_card": [card_of(concept).as_json()]}


def files_that_decide(path: Path, name: str, token: str = "") -> list[Path]:
    """The files that a concept is read from: its own, of a picture's also those of encoders."""
    files = files_of(path, name, token)
    try:
        parts = describe_concept(path, name)[0].method.parts
    except ConceptFileError:  # told when it is loaded
        parts = ()
    return [*files, *map(elite_path, elite_names())] if Part.LOCAL_FEATURES in parts else files


def with_encoder(concept: Concept) -> Concept:
    """A concept of a picture with its encoder from the folders; others as they are."""
    if Part.LOCAL_FEATURES not in concept.method.parts or concept.encoder is not None:
        return concept
    wanted = encoder_reference(concept.training) or EncoderReference("unknown", "unknown", None)
    encoder = find_encoder(map(elite_path, elite_names()), wanted.digest)
    if encoder is None:
        raise ConceptFileError(
            f"The {concept.title} is drawn with the encoder "
            f"'{wanted.name}' (digest {wanted.digest[:12]}), "
            f"which is missing. Looked in {elite_folders()}. Put its file or files there."
        )
    return replace(concept, encoder=encoder)


class SaveConcept(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PersonalizeSaveConcept",
            display_name="Save Concept",
            category=CATEGORY,
            description="Saves a concept to output/concepts. Nothing is overwritten: a taken name "
            "gets a number.",
            search_aliases=ALIASES,
            is_output_node=True,
            inputs=[
                ConceptSocket.Input("concept", tooltip="A learned concept, from a Train node."),
                io.String.Input(
                    "filename", default="my-concept",
                    tooltip="Name of the file, a sub-folder before it if you like: pets/my-dog",
                ),
                io.Boolean.Input(
                    "also_as_embedding", default=False,
                    tooltip="Also write models/embeddings/<name>, which people without this pack "
                    "use as embedding:<name>. Only for concepts that are words and nothing else.",
                ),
                io.Boolean.Input(
                    "keep_pictures", default=True, optional=True,
                    tooltip="Also keep small copies of the training pictures beside the file, for "
                    "the sidebar. They are not in the file, so who gets it does not get them.",
                ),
                io.Boolean.Input(
                    "embed_encoder", default=False, optional=True,
                    tooltip="ELITE only: also put the encoder's projections into the file, so that "
                    "it is drawn without the encoder's file: 77 MB in fp16, 153 MB in fp32 more.",
                ),
                io.Image.Input(
                    "preview", optional=True,
                    tooltip="A picture that stands for the concept in the sidebar. Without it, the "
                    "first training picture does.",
                ),
                io.Int.Input(
                    "rank", default=0, min=0, max=1024, optional=True, advanced=True,
                    tooltip="Custom Diffusion and DETEX only: keep the changes of the weights as "
                    "matrices of this rank, which makes a smaller file. The node says what was "
                    "lost. 0: keep all.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )  # fmt: skip

    @classmethod
    def run(
        cls,
        concept: Concept,
        filename: str,
        also_as_embedding: bool,
        keep_pictures: bool = True,
        preview: io.Image.Type | None = None,
        embed_encoder: bool = False,
        rank: int = 0,
    ) -> io.NodeOutput:
        lost = ""
        if rank:
            concept, error = compressed(concept, rank)
            lost = f"; the weights' changes at rank {rank} have a relative error of {error:.1%}"
        if also_as_embedding:
            check_embedding(concept)
        save = partial(save_concept, concept, embed_encoder=embed_encoder, new=True)
        taken = partial(is_taken_on_shelf, folder=concepts_output())
        path = save_new(concepts_output(), filename, save, is_taken=taken)
        paths = [path]
        if also_as_embedding:
            save = partial(save_embedding, concept, new=True)
            name = name_in_prompts(filename)
            paths.append(save_new(embeddings_folder(), name, save, is_taken=is_taken))
        try:
            write_pictures(path, preview, concept.pictures if keep_pictures else None)
        except DiskError as error:
            lost += f"; without pictures: {error}"
        tell_browsers(CONCEPTS_CHANGED)
        text = "saved " + " and ".join(f"{p} ({shown_size(p)})" for p in paths) + lost
        NodeProgress(1, cls.hidden.unique_id).show_text(text)
        return io.NodeOutput(ui={"text": [text], "concepts": [str(p) for p in paths]})


def shown_size(path: Path) -> str:
    """Of a file, in kB or MB of a thousand."""
    size = path.stat().st_size / 1000
    return f"{size:.1f} kB" if size < 1000 else f"{size / 1000:.1f} MB"


class ApplyConcept(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PersonalizeApplyConcept",
            display_name="Apply Concept",
            category=CATEGORY,
            description="Makes the concept's placeholder mean the concept in every prompt that is "
            "encoded with the CLIP output. Prompts without it are untouched.",
            search_aliases=ALIASES,
            inputs=[
                io.Model.Input("model", tooltip="The model to sample with. It is not changed."),
                io.Clip.Input("clip", tooltip="Its CLIP. It is not changed."),
                ConceptSocket.Input(
                    "concept", tooltip="A learned concept, from Load Concept or a Train node."
                ),
                io.Float.Input(
                    "strength", default=1.0, min=0.0, max=3.0, step=0.05, round=0.001,
                    tooltip="0: the class word. 1: the concept as learned. Above 1: more than "
                    "learned.",
                ),
                io.Float.Input(
                    "local_strength", default=0.8, min=0.0, max=2.0, step=0.05, round=0.001,
                    tooltip="ELITE only: how much of the picture's details is carried over, 0.8 to "
                    "generate, 0.6 to edit.",
                ),
                io.Float.Input(
                    "start_percent", default=0.0, min=0.0, max=1.0, step=0.01, round=0.001,
                    tooltip="ELITE only: when the details begin to act, as a part of the sampling.",
                ),
                io.Float.Input(
                    "end_percent", default=1.0, min=0.0, max=1.0, step=0.01, round=0.001,
                    tooltip="ELITE only: when the details cease to act.",
                ),
                io.Boolean.Input(
                    "own_prompts_only", default=False, optional=True, advanced=True,
                    tooltip="Custom Diffusion and DETEX only: the weights change in prompts that "
                    "name the concept and in no others, so that two such concepts in different "
                    "prompts or areas keep apart. A step takes a little longer.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model"),
                io.Clip.Output(display_name="clip"),
            ],
        )  # fmt: skip

    @classmethod
    def run(
        cls,
        model: io.Model.Type,
        clip: io.Clip.Type,
        concept: Concept,
        strength: float,
        local_strength: float,
        start_percent: float,
        end_percent: float,
        own_prompts_only: bool = False,
    ) -> io.NodeOutput:
        details = Details(local_strength, start_percent, end_percent)
        patched = apply_concept(
            model, clip, concept, strength, details=details, own_prompts=own_prompts_only
        )
        return io.NodeOutput(*patched, ui=shown_card(concept))
