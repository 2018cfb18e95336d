"""Differences of cross-attention weights in a concept, what Custom Diffusion and DETEX change.

A weight's path is that of the layer in the host's UNet, ``input_blocks.1.1.transformer_blocks.0
.attn2.to_k``. Its tensor is ``difference.<path>`` (out, in), or in the compressed form the product
of ``difference.<path>.up`` (out, rank) and ``difference.<path>.down`` (rank, in).

Files of other programs hold whole weights, ``weight.<path>`` (out, in): what they differ by shows
where a MODEL is at hand.
"""

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from .concept import Concept
from .errors import ConceptFileError, PersonalizeError
from .tensors import copied, is_finite

_PREFIX = "difference."
_WHOLE = "weight."
_UP, _DOWN = ".up", ".down"
_MOST_NUMBERS = 2**29  # keys and values of Stable Diffusion XL are 3.4e8


def difference_tensors(differences: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A concept's tensors for differences by path: fp16, which halves the file."""
    return {
        _PREFIX + path: copied(difference, torch.float16)
        for path, difference in differences.items()
    }


def weight_differences(concept: Concept) -> dict[str, Tensor]:
    """The differences of a concept by path, fp32; raise ConceptFileError for what cannot be."""
    found = {path: _matrix(concept, path) for path in difference_shapes(concept)}
    for path, difference in found.items():
        _check_finite(concept, path, difference)
    return found


def difference_shapes(concept: Concept) -> dict[str, tuple[int, ...]]:
    """The shape of each difference by path, without computing it.

    Raises ConceptFileError for what cannot be, and for more than a UNet has: a small file can hold
    the factors of enormous products.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    for name, tensor in concept.tensors.items():
        if name.startswith(_PREFIX):
            path = name.removeprefix(_PREFIX).removesuffix(_UP).removesuffix(_DOWN)
            shapes[path] = tuple(tensor.shape) if name == _PREFIX + path else _rows(concept, path)
            _check_shape(concept, path, shapes[path])
    if sum(map(math.prod, shapes.values())) > _MOST_NUMBERS:
        raise ConceptFileError(
            f"The concept {concept.placeholder} says that it changes more weights than any model "
            "has. Its file is damaged: take it from where it was saved."
        )
    return shapes


def _rows(concept: Concept, path: str) -> tuple[int, int]:
    """The shape of a product, whose factors must fit each other."""
    up, down = (concept.tensors.get(_PREFIX + path + factor) for factor in (_UP, _DOWN))
    if up is None or down is None or not up.ndim == down.ndim == 2 or up.shape[1] != down.shape[0]:
        raise ConceptFileError(
            f"The concept {concept.placeholder} holds half of a compressed weight, {path}. Its "
            "file is damaged: save it again."
        )
    return up.shape[0], down.shape[1]


def _matrix(concept: Concept, path: str) -> Tensor:
    whole = concept.tensors.get(_PREFIX + path)
    if whole is not None:
        return whole.float()
    up, down = (concept.tensors[_PREFIX + path + factor].float() for factor in (_UP, _DOWN))
    return up @ down


def factor_tensors(path: str, up: Tensor, down: Tensor) -> dict[str, Tensor]:
    """A concept's tensors for one difference in the compressed form."""
    return {_PREFIX + path + _UP: up, _PREFIX + path + _DOWN: down}


def whole_tensors(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A concept's tensors for whole weights by path, in the type that they have."""
    return {_WHOLE + path: weight.detach().cpu() for path, weight in weights.items()}


def whole_weights(concept: Concept) -> dict[str, Tensor]:
    """The whole weights of a concept by path, fp32; raise ConceptFileError for what cannot be."""
    found = {
        name.removeprefix(_WHOLE): tensor.float()
        for name, tensor in concept.tensors.items()
        if name.startswith(_WHOLE)
    }
    for path, weight in found.items():
        _check_shape(concept, path, tuple(weight.shape))
        _check_finite(concept, path, weight)
    return found


def with_starts(concept: Concept, starts: Mapping[str, Tensor]) -> Concept:
    """The concept with differences to the given weights in the place of whole weights."""
    whole = whole_weights(concept)
    kept = {name: t for name, t in concept.tensors.items() if not name.startswith(_WHOLE)}
    differences = {_PREFIX + path: weight - starts[path] for path, weight in whole.items()}
    return replace(concept, tensors=kept | differences)


def _check_shape(concept: Concept, path: str, shape: tuple[int, ...]) -> None:
    if len(shape) != 2 or shape[1] != concept.text_width:
        raise ConceptFileError(
            f"The concept {concept.placeholder} has a difference of shape "
            f"{shape} for {path}; expected (channels, {concept.text_width}). "
            "Train it again."
        )


def _check_finite(concept: Concept, path: str, difference: Tensor) -> None:
    if not is_finite(difference):
        raise ConceptFileError(
            f"The concept {concept.placeholder} holds NaN or infinite numbers for {path}. Its "
            "training went wrong or its file is damaged: train it again."
        )


def compressed(concept: Concept, rank: int) -> tuple[Concept, float]:
    """The concept with the best approximation of each difference by a matrix of that rank.

    Returns it and its error: ||difference - approximation|| / ||difference|| over all weights.
    Raises PersonalizeError for a concept without differences.
    """
    differences = weight_differences(concept)
    if whole_weights(concept):
        raise PersonalizeError(
            f"The concept {concept.placeholder} came from another program with whole weights, and "
            "their changes show only beside a MODEL. Set rank to 0."
        )
    if not differences:
        raise PersonalizeError(
            f"A {concept.method.title} concept has no weights to compress. Set rank to 0."
        )
    factors = {path: _factors(matrix, rank) for path, matrix in differences.items()}
    tensors = {k: t for k, t in concept.tensors.items() if not k.startswith(_PREFIX)}
    for path, (up, down) in factors.items():
        tensors |= factor_tensors(path, up, down)
    small = replace(concept, tensors=tensors)
    kept = weight_differences(small)
    lost = sum((differences[path] - kept[path]).square().sum().item() for path in differences)
    whole = sum(matrix.square().sum().item() for matrix in differences.values())
    return small, (lost / whole) ** 0.5 if whole else 0.0


def factors(concept: Concept) -> dict[str, tuple[Tensor, Tensor]]:
    """Each difference by path as a product, (out, r) and (r, in), without loss: fp16.

    The compressed form is one already; a whole matrix is its own product with an identity.
    """
    found = {}
    for path, matrix in weight_differences(concept).items():
        up = concept.tensors.get(_PREFIX + path + _UP)
        if up is not None:
            found[path] = up.half(), concept.tensors[_PREFIX + path + _DOWN].half()
        elif matrix.shape[0] <= matrix.shape[1]:
            found[path] = torch.eye(len(matrix)).half(), matrix.half()
        else:
            found[path] = matrix.half(), torch.eye(matrix.shape[1]).half()
    return found


def _factors(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    root = s[:rank].sqrt()
    up, down = u[:, :rank] * root, root[:, None] * vh[:rank]
    return up.half().contiguous(), down.half().contiguous()
