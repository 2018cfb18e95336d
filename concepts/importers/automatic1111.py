"""Embeddings of AUTOMATIC1111's web UI, of the first Textual Inversion program, and lists of words.

``{"string_to_token": ..., "string_to_param": {"*": vectors}, "name": ...}``. With several terms the
first one is the embedding, as the web UI means it and as the host reads it.
"""

from collections.abc import Mapping

from ..concept import Concept
from ..errors import ConceptFileError
from ..foreign import ForeignFile, plain_tensors
from .words import is_word, stacked, word_concept


def terms(file: ForeignFile) -> dict[str, Concept]:
    """The concept in ``string_to_param``."""
    if not isinstance(file.content, Mapping) or "string_to_param" not in file.content:
        return {}
    vectors = plain_tensors(file.content["string_to_param"])
    if not vectors:
        raise ConceptFileError(
            f"'{file.name}' is no embedding: expected a dictionary of tensors in string_to_param, "
            f"got {type(file.content['string_to_param']).__name__} without any. Its program wrote "
            "no vectors: save it again there."
        )
    return {key: word_concept(file, file.name, word) for key, word in vectors.items()}


def listed(file: ForeignFile) -> dict[str, Concept]:
    """The one concept in a list of dictionaries: the host reads them as parts of one word."""
    if not isinstance(file.content, list):
        return {}
    parts = {
        f"{n}.{key}": tensor
        for n, entry in enumerate(file.content)
        for key, tensor in plain_tensors(entry).items()
        if is_word(tensor)
    }
    names = {key.partition(".")[2] for key in parts}
    token = names.pop() if len(names) == 1 else file.name
    return {token: word_concept(file, token, stacked(file, parts))} if parts else {}
