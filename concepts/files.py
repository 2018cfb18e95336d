"""The concept file: one ``.safetensors`` with readable names, described by its metadata.

Tensors: ``word`` is what the placeholder stands for, ``word.pose2`` an attribute word, all others
belong to the method. Metadata (text): ``format``, ``method``, ``base``, ``text_width``,
``placeholder``, ``class_word`` and ``training`` (JSON); of a concept with several subjects also
``class_words`` (JSON), theirs by the name of the word. The method is read from here, never guessed.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from .bases import BASES
from .concept import Concept
from .differences import difference_shapes
from .elite import (
    EliteEncoder,
    EliteStage,
    ProjectionPairs,
    embedded_tensors,
    encoder_reference,
    split_embedded,
)
from .errors import ConceptFileError, PersonalizeError, reading, shown
from .foreign import MAX_FOREIGN_BYTES, PICKLED, SAFE, check_kind, is_safetensors, read_foreign
from .importers import chosen, import_concept
from .local_features import local_features
from .methods import Part, method_of
from .residuals import residual_layers
from .schema import json_object, text, texts, whole_number
from .tensor_files import read_header, read_tensors, write_tensors

FORMAT = "personalize/1"
SUFFIXES = (*SAFE, *PICKLED)
_MOST_WIDTH = 2**14  # of a word; that of Stable Diffusion XL has 2048 numbers
MAX_BYTES = 2**30  # K/V differences of Stable Diffusion XL are 650 MiB in fp16
MAX_EMBEDDED_BYTES = 2**29
"""Of an ELITE encoder's projections in a concept file; those of Stable Diffusion 2.x have 98 MiB a
stage in fp32, those of XL 650 MiB in fp16, which nobody wants once for each concept."""


def save_concept(
    concept: Concept, path: Path, embed_encoder: bool = False, new: bool = False
) -> None:
    """Write a concept file; the file appears whole or not at all.

    embed_encoder: of an ELITE concept, with the projections of its encoder, so that it is drawn
        without the encoder's file
    new: never over another file
    Raises DiskError, and with `new` NameTakenError, each with a sentence.
    """
    tensors = _tensors(concept)
    if embed_encoder:
        if concept.encoder is None:
            raise ConceptFileError(
                f"{concept.placeholder} is a {concept.method.title} concept without an "
                "encoder at hand, so none can be saved with it. Switch embed_encoder off."
            )
        embedded = embedded_tensors(concept.encoder)
        _check_embedded(concept, embedded)
        tensors |= embedded
    write_tensors(tensors, path, _metadata(concept), new)


def _check_embedded(concept: Concept, embedded: Mapping[str, Tensor]) -> None:
    size = sum(tensor.nbytes for tensor in embedded.values())
    if size > MAX_EMBEDDED_BYTES:
        raise ConceptFileError(
            f"The projections of {concept.placeholder}'s encoder have {size / 2**20:.0f} MiB, as "
            f"those of {BASES[concept.base].title} do. Expected at most "
            f"{MAX_EMBEDDED_BYTES // 2**20} MiB in a concept file. Switch embed_encoder off and "
            "share the encoder's own file, for models/elite, beside the concept's."
        )


def save_embedding(concept: Concept, path: Path, new: bool = False) -> None:
    """Write the placeholder's vectors as a stock embedding, read by ``embedding:name``."""
    check_embedding(concept)
    write_tensors(BASES[concept.base].split(concept.words[""]), path, new=new)


def check_embedding(concept: Concept) -> None:
    """Refuse a concept that a stock embedding cannot hold."""
    if "" not in concept.words or concept.tensors:
        raise ConceptFileError(
            f"A {concept.method.title} concept is more than a word, so a stock embedding "
            "cannot hold it. Save it as a concept file only."
        )


def load_concept(path: Path, name: str | None = None, token: str = "") -> Concept:
    """Read a concept file, or what another program learned as a concept.

    name: how the user calls the file; a word of another program without a usable token gets its
        placeholder from it.
    token: which concept to take of a file that holds several
    Raises ConceptFileError for anything that is damaged, foreign or unsafe.
    """
    path, name = Path(path), name or Path(path).name
    if not path.is_file():
        raise ConceptFileError(f"There is no file '{name}'. Press R to refresh the list of files.")
    with _readable(name):
        check_kind(path, name)
        if is_safetensors(path) and _is_ours(read_header(path, name).metadata):
            _check_size(path, name, MAX_BYTES)
            file = read_tensors(path, name)
            concept = _read_concept(file.tensors, file.metadata, name)
            return chosen({concept.placeholder: concept}, token, name)
        _check_size(path, name, MAX_FOREIGN_BYTES)
        return import_concept(read_foreign(path, name), token)


def describe_concept(path: Path, name: str) -> tuple[Concept, list[str]]:
    """What a file says of its concept, and the names of its words; no numbers are read.

    The concept has no words and no tensors when the file is ours, else they are on `meta`. Raises
    as `load_concept` does.
    """
    with _readable(name):
        check_kind(path, name)
        if is_safetensors(path):
            file = read_header(path, name)
            if _is_ours(file.metadata):
                words = sorted(map(_word, _words(file.tensors)))
                return _read_description(file.metadata, name), words
        _check_size(path, name, MAX_FOREIGN_BYTES)
        concept = import_concept(read_foreign(path, name, header_only=True))
    return concept, sorted(concept.words)


def files_of(path: Path, name: str, token: str = "") -> list[Path]:
    """The files that `load_concept` reads: of other programs, some have a word in two."""
    try:
        if is_safetensors(path) and _is_ours(read_header(path, name).metadata):
            return [path]
        file = read_foreign(path, name, header_only=True)
    except (ConceptFileError, OSError):
        return [path]
    with suppress(ConceptFileError):
        import_concept(file, token)
    return [path, *file.read]


def _tensors(concept: Concept) -> dict[str, Tensor]:
    words = {f"word.{key}" if key else "word": word for key, word in concept.words.items()}
    return {**words, **concept.tensors}


def _metadata(concept: Concept) -> dict[str, str]:
    several = {"class_words": json.dumps(dict(concept.class_words), sort_keys=True)}
    return {
        "format": FORMAT,
        "method": concept.method.key,
        "base": concept.base,
        "text_width": str(concept.text_width),
        "placeholder": concept.placeholder,
        "class_word": concept.class_word,
        "training": json.dumps(dict(concept.training), sort_keys=True),
        **(several if concept.class_words else {}),
    }


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Tell which file the system does not give."""
    try:
        yield
    except OSError as error:
        raise ConceptFileError(
            f"'{name}' cannot be read ({shown(error)}). See who may read it, or copy it again."
        ) from error


def _is_ours(metadata: Mapping[str, str]) -> bool:
    return metadata.get("format", "").startswith("personalize/")


def _read_concept(tensors: dict[str, Tensor], metadata: Mapping[str, str], name: str) -> Concept:
    concept = _read_description(metadata, name)
    words = {_word(key): tensors[key] for key in _words(tensors)}
    others = {key: t for key, t in tensors.items() if key not in _words(tensors)}
    if "" not in words and (Part.WORDS in concept.method.parts or not others):
        raise ConceptFileError(
            f"'{name}' says it is a {concept.method.title} concept, but it lacks what was "
            "learned (a tensor named word). Save the concept again."
        )
    with reading(name):
        embedded, others = split_embedded(others)
        encoder = _embedded_encoder(concept, embedded) if embedded else None
        encoder_reference(concept.training)  # refuses what with_encoder could not look for
        whole = replace(concept, words=words, tensors=others, encoder=encoder)
        _check_parts(whole)
        return whole


def _check_parts(concept: Concept) -> None:
    """Refuse parts that cannot be; what is missing is told where the concept is applied."""
    for part, (prefix, check) in _PARTS.items():
        there = any(name.startswith(prefix) for name in concept.tensors)
        if there and part in concept.method.parts:
            check(concept)


_PARTS: dict[Part, tuple[str, Callable[[Concept], Any]]] = {
    Part.RESIDUALS: ("residual.", residual_layers),
    Part.DIFFERENCES: ("difference.", difference_shapes),
    Part.LOCAL_FEATURES: ("local", local_features),
}
"""How the names of a part's tensors begin, and what refuses wrong ones."""


def _embedded_encoder(concept: Concept, embedded: Mapping[str, ProjectionPairs]) -> EliteEncoder:
    reference = encoder_reference(concept.training)
    missing = "'encoder'" if reference is None else "'vision'"
    if reference is None or reference.vision is None or "global" not in embedded:
        raise ConceptFileError(
            "The concept holds projections of its encoder, but lacks or garbles "
            f"{missing if 'global' in embedded else 'the global ones'}. Save it again."
        )
    shapes = [_projection_shapes(concept, stage) for stage in embedded.values()]
    if any(one != shapes[0] for one in shapes):
        raise ConceptFileError(
            "The concept's encoder has global and local projections of other blocks or sizes. Its "
            "file is damaged: copy or download it again."
        )
    local = EliteStage({}, embedded["local"]) if "local" in embedded else None
    return EliteEncoder(
        reference.name,
        concept.base,
        concept.text_width,
        reference.vision,
        EliteStage({}, embedded["global"]),
        local,
        known_digest=reference.digest,
    )


def _projection_shapes(concept: Concept, stage: ProjectionPairs) -> dict[str, tuple[int, ...]]:
    for path, pair in stage.items():
        to_k, to_v = pair
        fits = to_k.ndim == 2 and to_k.shape == to_v.shape and to_k.shape[1] == concept.text_width
        if not fits or not (to_k.is_floating_point() and to_v.is_floating_point()):
            raise ConceptFileError(
                f"The concept's encoder has projections of shapes {[tuple(t.shape) for t in pair]} "
                f"for {shown(path)}; expected equal ones of width {concept.text_width}. Its file "
                "is damaged: copy or download it again."
            )
    return {path: tuple(to_k.shape) for path, (to_k, _) in stage.items()}


def _read_description(metadata: Mapping[str, str], name: str) -> Concept:
    if metadata["format"] != FORMAT:
        raise ConceptFileError(
            f"'{name}' has the format {shown(metadata['format'])}, this version reads {FORMAT}. "
            "Update Personalize to load it."
        )
    with reading(name):
        try:
            return Concept(
                method=method_of(text(metadata, "method")),
                base=text(metadata, "base"),
                text_width=whole_number(metadata, "text_width", 1, _MOST_WIDTH),
                placeholder=text(metadata, "placeholder"),
                class_word=text(metadata, "class_word", ""),
                training=json_object(metadata.get("training", "{}")),
                class_words=texts(metadata, "class_words"),
            )
        except PersonalizeError:
            raise
        except ValueError as error:  # of the schema, or a method that nothing registered
            raise ConceptFileError(
                f"It says {FORMAT}, but its description lacks or garbles {error}. Save the concept "
                "again."
            ) from error


def _words(keys: Iterable[str]) -> list[str]:
    return [key for key in keys if key == "word" or key.startswith("word.")]


def _word(key: str) -> str:
    """The name of a word from its tensor's: ``word`` -> ``""``, ``word.pose2`` -> ``pose2``."""
    return key.removeprefix("word").removeprefix(".")


def _check_size(path: Path, name: str, limit: int) -> None:
    size = path.stat().st_size
    if size > limit:
        raise ConceptFileError(
            f"'{name}' has {size / 2**20:.0f} MiB. Concepts are under {MAX_BYTES // 2**20} MiB, "
            f"embeddings of other programs under {MAX_FOREIGN_BYTES // 2**20} MiB; is it a "
            "checkpoint or a LoRA? Load it with the node made for that."
        )
