"""Local features of a picture in a concept of ELITE: ``local`` (P, text_width), one row a patch."""

from torch import Tensor

from .concept import Concept
from .errors import ConceptFileError
from .tensors import is_finite

_MOST_PATCHES = 4096  # of any vision encoder; CLIP's ViT-L/14 has 256


def local_features(concept: Concept) -> Tensor | None:
    """The (P, text_width) local features of a concept, None for words alone.

    Raises ConceptFileError for what cannot be.
    """
    local = concept.tensors.get("local")
    if local is None:
        return None
    fits = local.ndim == 2 and local.shape[1] == concept.text_width
    if not fits or not 1 <= len(local) <= _MOST_PATCHES or not local.is_floating_point():
        raise ConceptFileError(
            f"The {concept.title} has local features of shape "
            f"{tuple(local.shape)}; expected vectors of width {concept.text_width}. Encode its "
            "picture again."
        )
    if not is_finite(local):
        raise ConceptFileError(
            f"The {concept.title} holds NaN or infinite numbers. Its encoder's "
            "training went wrong or its file is damaged: encode its picture again."
        )
    return local
