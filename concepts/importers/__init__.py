"""Importers: what other programs learned, as concepts. One module a family of programs.

An importer looks at what a file holds and gives the concepts in it by their tokens, or none when
the file is not of its family. It raises ConceptFileError for a file of its family that it cannot
use. A new family is one module and one entry of `IMPORTERS`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from ..concept import Concept
from ..errors import ConceptFileError
from ..foreign import ForeignFile
from .automatic1111 import listed, terms
from .catversion import adapter
from .custom_diffusion import custom_diffusion
from .diffusers import tokens
from .encoders import named_after_encoders
from .lora_bundles import bundled
from .strangers import no_concept, refuse_strangers

Importer = Callable[[ForeignFile], Mapping[str, Concept]]

IMPORTERS: tuple[Importer, ...] = (
    adapter,
    custom_diffusion,
    terms,
    listed,
    bundled,
    named_after_encoders,
    refuse_strangers,
    tokens,  # knows words by their shape alone, so it comes last
)

_FIRST_IS_MEANT = (terms, custom_diffusion)
"""Importers of files whose first word is the file's, whatever words stand beside it."""


def import_concept(file: ForeignFile, token: str = "") -> Concept:
    """The concept in a file of another program.

    token: which one of several; the angle brackets may be left out
    Raises ConceptFileError for a file without a concept, and for several without a choice.
    """
    file = replace(file, token=token.strip())
    for importer in IMPORTERS:
        if found := importer(file):
            if importer in _FIRST_IS_MEANT and not file.token:
                return next(iter(found.values()))
            return chosen(found, token, file.name)
    raise no_concept(file)


def chosen(found: Mapping[str, Concept], token: str, name: str) -> Concept:
    """The concept of that token, or the only one when none is asked for; raise with a sentence."""
    if not token.strip() and len(found) == 1:
        return next(iter(found.values()))
    for one, concept in found.items():
        if token.strip() and _plain(token) in (_plain(one), _plain(concept.placeholder)):
            return concept
    names = ", ".join(found)
    if not token.strip():
        raise ConceptFileError(
            f"'{name}' holds {len(found)} concepts: {names}. Expected to be told which one: write "
            f"its name into token, such as {next(iter(found))}."
        )
    raise ConceptFileError(
        f"'{name}' holds no concept named {token.strip()}, but {names}. Write one of these into "
        "token, or leave it empty."
    )


def _plain(token: str) -> str:
    return token.strip().strip("<>").lower()
