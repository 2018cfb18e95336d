"""Local features of a concept: theirs, none, or a sentence."""

from dataclasses import replace

import pytest
import torch
from personalize.concepts.concept import Concept
from personalize.concepts.errors import ConceptFileError
from personalize.concepts.local_features import local_features
from personalize.concepts.methods import ELITE

CONCEPT = Concept(ELITE, "sd1", 768, "<my-dog>", words={"": torch.zeros(1, 768)})


def with_local(tensor):
    return replace(CONCEPT, tensors={"local": tensor})


def test_words_alone_have_none():
    assert local_features(CONCEPT) is None
    assert local_features(with_local(torch.ones(4, 768))).shape == (4, 768)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (torch.ones(768), r"shape \(768,\)"),
        (torch.ones(4, 1024), "vectors of width 768"),
        (torch.ones(0, 768), r"shape \(0, 768\)"),
        (torch.ones(4097, 768), r"shape \(4097, 768\)"),
        (torch.ones(4, 768, dtype=torch.int64), "expected vectors"),
        (torch.full((4, 768), float("inf")), "NaN or infinite"),
    ],
)
def test_what_cannot_be_is_refused(tensor, message):
    with pytest.raises(ConceptFileError, match=message):
        local_features(with_local(tensor))
