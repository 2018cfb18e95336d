"""ELITE: load and save encoders, and turn pictures into concepts."""

from functools import partial

import torch
from comfy_api.latest import io

from ..concepts.disk import Stamp, stamp
from ..concepts.elite import EliteEncoder
from ..concepts.elite_files import load_encoder_files, save_encoder
from ..concepts.methods import ELITE, Method
from ..host.folders import elite_names, elite_output, elite_path, save_new
from ..host.progress import NodeProgress
from ..pictures.images import single_pictures
from ..pictures.masks import MaskMarks
from ..training.elite.encoding import encode_elite
from .inputs import PLACEHOLDER_TIP, SUBJECT_WORDS, ConceptSocket, mask_marks_input
from .sockets import Node

EliteSocket = io.Custom("ELITE_ENCODER")

CATEGORY = "personalize/elite"
ALIASES = [
    *SUBJECT_WORDS,
    *("elite", "encoder", "one picture", "ip-adapter", "face id", "reference", "no training"),
]
SAME_FILE = "in the same file"


class LoadELITE(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        names = elite_names()
        pickles = [name for name in names if not name.endswith(".safetensors")]
        return io.Schema(
            node_id="PersonalizeLoadELITE",
            display_name="Load ELITE Encoder",
            category=CATEGORY,
            description="Loads an encoder that turns one picture into a concept: a .safetensors of "
            "this pack, or the official global_mapper.pt, with its local_mapper.pt or for words "
            "alone. Files lie in models/elite and output/elite.",
            search_aliases=ALIASES,
            inputs=[
                io.Combo.Input(
                    "global_mapper", options=names,
                    tooltip="An encoder of this pack, or the official global_mapper.pt.",
                ),
                io.Combo.Input(
                    "local_mapper", options=[SAME_FILE, *pickles], default=SAME_FILE,
                    tooltip="The local_mapper.pt that belongs to an official global_mapper.pt; "
                    "without it that one gives words and no details. Encoders of this pack are one "
                    "file.",
                ),
            ],
            outputs=[EliteSocket.Output(display_name="elite")],
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, global_mapper: str, local_mapper: str) -> list[Stamp]:
        names = [name for name in (global_mapper, local_mapper) if name != SAME_FILE]
        return [stamp(elite_path(name)) for name in names]

    @classmethod
    def run(cls, global_mapper: str, local_mapper: str) -> io.NodeOutput:
        local = None if local_mapper == SAME_FILE else elite_path(local_mapper)
        return io.NodeOutput(load_encoder_files(elite_path(global_mapper), local))


class SaveELITE(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PersonalizeSaveELITE",
            display_name="Save ELITE Encoder",
            category=CATEGORY,
            description="Saves an encoder as one .safetensors to output/elite, where Load ELITE "
            "Encoder finds it. Nothing is overwritten: a taken name gets a number.",
            search_aliases=ALIASES,
            is_output_node=True,
            inputs=[
                EliteSocket.Input("elite", tooltip="An encoder, from Load ELITE Encoder."),
                io.String.Input(
                    "filename", default="my-encoder",
                    tooltip="Name of the file, a sub-folder before it if you like: study/encoder",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )  # fmt: skip

    @classmethod
    def run(cls, elite: EliteEncoder, filename: str) -> io.NodeOutput:
        path = save_new(elite_output(), filename, partial(save_encoder, elite, new=True))
        NodeProgress(1, cls.hidden.unique_id).show_text(f"saved {path}")
        return io.NodeOutput(ui={"text": [f"saved {path}"], "encoders": [str(path)]})


class EncodeELITE(Node):
    @classmethod
    def makes(cls) -> Method:
        """What its concepts are, so that a browser can tell before it has run."""
        return ELITE

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PersonalizeEncodeELITE",
            display_name="ELITE Encode",
            category=CATEGORY,
            description="Turns a picture into a concept in one pass, without training.",
            search_aliases=ALIASES,
            inputs=[
                EliteSocket.Input("elite", tooltip="An encoder, from Load ELITE Encoder."),
                io.ClipVision.Input(
                    "clip_vision",
                    tooltip="The CLIP vision encoder that it was trained with: CLIP ViT-L/14 for "
                    "the official one.",
                ),
                io.Image.Input(
                    "image",
                    tooltip="A square picture of the subject. Of several, the words are averaged, "
                    "and the details are those of the first.",
                ),
                io.String.Input("placeholder", default="<my-dog>", tooltip=PLACEHOLDER_TIP),
                io.Mask.Input(
                    "mask", optional=True,
                    tooltip="White on the subject. Without it the details of the whole picture are "
                    "carried over, its background too, unless the picture has transparency: then "
                    "those of its opaque part.",
                ),
                io.String.Input(
                    "class_word", default="", optional=True,
                    tooltip="Says what the subject is, such as dog; stands in the placeholder's "
                    "place at strength 0.",
                ),
                mask_marks_input(),
            ],
            outputs=[ConceptSocket.Output(display_name="concept")],
            hidden=[io.Hidden.unique_id],
        )  # fmt: skip

    @classmethod
    def run(
        cls,
        elite: EliteEncoder,
        clip_vision: io.ClipVision.Type,
        image: io.Image.Type,
        placeholder: str,
        mask: io.Mask.Type | None = None,
        class_word: str = "",
        mask_marks: str = MaskMarks.AUTO,
    ) -> io.NodeOutput:
        notes: list[str] = []
        image = torch.stack(list(single_pictures([image])))
        concept = encode_elite(
            elite,
            clip_vision,
            image,
            mask,
            placeholder=placeholder,
            class_word=class_word,
            marks=MaskMarks(mask_marks),
            warn=notes.append,
        )
        height, width = image.shape[1:3]
        if height != width:
            notes.append(
                f"The picture ({width}x{height}) was squeezed to a square, as the encoder reads "
                "it. Crop it to a square for a better likeness."
            )
        if notes:
            NodeProgress(1, cls.hidden.unique_id).show_text(" ".join(notes))
        return io.NodeOutput(concept)
