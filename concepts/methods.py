"""The methods that make concepts, and what the rest of the pack must know of each.

A published method is a line below, so that its files can be read where nothing is trained. A method
of a file of its own registers itself there, in one call. Nothing else in the pack asks which method
made a concept: it asks these traits.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Part(Enum):
    """What a concept can be made of. `samplers/apply.py` says what each does to MODEL and CLIP."""

    WORDS = "words"
    """Word embeddings: the placeholder's, and those of attributes."""
    RESIDUALS = "residuals"
    """Residual keys and values in the text encoder's self-attention."""
    DIFFERENCES = "differences"
    """Differences of the MODEL's cross-attention weights."""
    LOCAL_FEATURES = "local features"
    """Local features of a picture, and the projections of the encoder that made them."""


class ClassWord(Enum):
    """Where the class word ("dog") stands when a prompt names the concept (``<my-dog>``)."""

    REPLACED = "replaced"
    """Nowhere: the learned words take its place."""
    WRITTEN = "written"
    """Behind the placeholder, by whoever writes the prompt, as in the training prompts."""
    APPENDED = "appended"
    """Behind the learned words, by itself."""
    KEPT = "kept"
    """In the placeholder's place: what was learned acts beside it."""


@dataclass(frozen=True)
class Method:
    """Traits of a method.

    key: its name in concept files; never changes
    title: its name for people
    parts: what its concepts are made of
    attributes: whether words besides the placeholder's own are attributes that a prompt may name
    patch: what it does to the MODEL besides its parts, (MODEL, AppliedConcept) -> MODEL; called at
        any strength but 0
    """

    key: str
    title: str
    parts: tuple[Part, ...]
    class_word: ClassWord = ClassWord.REPLACED
    attributes: bool = True
    patch: Callable[[Any, Any], Any] | None = field(default=None, repr=False, compare=False)

    @property
    def changes_weights(self) -> bool:
        """Whether the MODEL's own weights change, which could act in a concept's prompts alone."""
        return Part.DIFFERENCES in self.parts

    @property
    def changes_model(self) -> bool:
        """Whether its concepts need a MODEL that has come through Apply Concept."""
        return self.changes_weights or self.needs_rows

    @property
    def needs_rows(self) -> bool:
        """Whether the MODEL must know in which rows of a conditioning the placeholder stands."""
        return Part.LOCAL_FEATURES in self.parts or self.patch is not None


METHODS: dict[str, Method] = {}
"""All methods by key."""


def register_method(method: Method) -> Method:
    """Make a method known and return it. Raises ValueError when its key belongs to another."""
    if METHODS.setdefault(method.key, method) != method:
        raise ValueError(
            f"The method {method.title} has the key '{method.key}', which belongs to "
            f"{METHODS[method.key].title}. Give it another."
        )
    METHODS[method.key] = method
    return method


def method_of(key: str) -> Method:
    """The method that a concept file names. Raises ValueError for one that nothing registered."""
    if key not in METHODS:
        raise ValueError(f"'{key}' is not a valid Method")
    return METHODS[key]


TEXTUAL_INVERSION = register_method(Method("textual_inversion", "Textual Inversion", (Part.WORDS,)))
CROSS_INIT = register_method(
    Method("cross_init", "Cross Initialization", (Part.WORDS,), class_word=ClassWord.WRITTEN)
)
CUSTOM_DIFFUSION = register_method(
    Method(
        "custom_diffusion",
        "Custom Diffusion",
        (Part.WORDS, Part.DIFFERENCES),
        class_word=ClassWord.APPENDED,
    )
)
DETEX = register_method(
    Method("detex", "DETEX", (Part.WORDS, Part.DIFFERENCES), class_word=ClassWord.APPENDED)
)
CATVERSION = register_method(
    Method("catversion", "CatVersion", (Part.RESIDUALS,), class_word=ClassWord.KEPT)
)
ELITE = register_method(
    Method("elite", "ELITE", (Part.WORDS, Part.LOCAL_FEATURES), attributes=False)
)
