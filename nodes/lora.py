"""Save a concept for people without this pack: as a LoRA, with its words as embeddings."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from comfy_api.latest import io

from ..concepts.bases import BASES
from ..concepts.concept import Concept
from ..concepts.disk import remove
from ..concepts.lora import lora_metadata, lora_tensors, written_with_embeddings
from ..concepts.tensor_files import write_tensors
from ..host.browsers import CONCEPTS_CHANGED, tell_browsers
from ..host.card_pictures import is_taken
from ..host.folders import (
    embeddings_folder,
    file_in,
    loras_folder,
    name_in_prompts,
    save_new,
)
from ..host.progress import NodeProgress
from ..samplers.differences import with_own_starts
from .concept import ALIASES, CATEGORY, shown_size
from .inputs import ConceptSocket
from .sockets import Node


class SaveLoRA(Node):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PersonalizeSaveLoRA",
            display_name="Save Concept as LoRA",
            category=CATEGORY,
            description="Saves a Custom Diffusion or DETEX concept as a LoRA to models/loras and "
            "its words to models/embeddings, for Load LoRA and for other programs.",
            search_aliases=[*ALIASES, "export", "share", "convert"],
            is_output_node=True,
            inputs=[
                ConceptSocket.Input(
                    "concept", tooltip="A Custom Diffusion or DETEX concept: these change weights."
                ),
                io.String.Input(
                    "filename", default="my-concept",
                    tooltip="Name of the LoRA and of the embedding, a sub-folder before it if you "
                    "like: pets/my-dog. Spaces and brackets become hyphens: prompts know none.",
                ),
                io.Int.Input(
                    "rank", default=32, min=0, max=1280,
                    tooltip="Rank of the LoRA: smaller files, and less of what was learned; the "
                    "node says what is lost. 0: all of it, in a file of full size.",
                ),
                io.Model.Input(
                    "model", optional=True,
                    tooltip="Only for a concept that another program has written with whole "
                    "weights: the MODEL that it was learned on.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )  # fmt: skip

    @classmethod
    def run(
        cls, concept: Concept, filename: str, rank: int, model: io.Model.Type | None = None
    ) -> io.NodeOutput:
        if model is not None:
            concept = with_own_starts(model, concept)
        tensors, error = lora_tensors(concept, rank)

        def save(lora: Path) -> None:
            write = written_with_embeddings(concept, names_of(concept, lora))[""]
            metadata = lora_metadata(concept, tensors, write)
            with all_or_none() as new:
                write_tensors(tensors, new(lora), metadata, new=True)
                for word, path in embeddings(concept, lora).items():
                    vectors = BASES[concept.base].split(concept.words[word])
                    write_tensors(vectors, new(path), new=True)

        def any_taken(lora: Path) -> bool:
            return any(map(is_taken, (lora, *embeddings(concept, lora).values())))

        name = name_in_prompts(filename)
        lora = save_new(loras_folder(), name, save, is_taken=any_taken)
        words = embeddings(concept, lora).values()
        written = written_with_embeddings(concept, names_of(concept, lora)).values()
        lost = f" with a relative error of {error:.1%}" if rank else ""
        text = (
            f"saved {lora} ({shown_size(lora)}){lost}, and its words to {embeddings_folder()}. "
            f"With Load LoRA at strength 1 write {', '.join(written)}"
        )
        tell_browsers(CONCEPTS_CHANGED)  # Load LoRA lists it at once
        NodeProgress(1, cls.hidden.unique_id).show_text(text)
        return io.NodeOutput(ui={"text": [text], "files": [str(lora), *map(str, words)]})


def names_of(concept: Concept, lora: Path) -> dict[str, str]:
    """What stands behind ``embedding:`` in a prompt for each word of a concept."""
    name = lora.relative_to(loras_folder()).with_suffix("").as_posix()
    return {word: f"{name}-{word}" if word else name for word in concept.words}


def embeddings(concept: Concept, lora: Path) -> dict[str, Path]:
    """The file of each word, which has the name of the LoRA."""
    names = names_of(concept, lora)
    return {word: file_in(embeddings_folder(), name, lora.suffix) for word, name in names.items()}


@contextmanager
def all_or_none() -> Iterator[Callable[[Path], Path]]:
    """Notes files that are written; when one of them fails, those before it are removed."""
    written: list[Path] = []

    def new(path: Path) -> Path:
        written.append(path)
        return path

    try:
        yield new
    except BaseException:
        for path in written[:-1]:
            remove(path)
        raise
