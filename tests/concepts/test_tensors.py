"""Copies, digests and the finite check of every file."""

import io

import pytest
import torch
from personalize.concepts.tensors import copied, digest_of, fill, is_finite


def test_a_copy_shares_nothing():
    source = torch.arange(6.0).reshape(2, 3).T
    copy = copied(source)
    source.zero_()
    assert copy.is_contiguous() and copy.sum() == 15
    assert copied(source, torch.float16).dtype == torch.float16
    assert copied(torch.empty(2, device="meta"), torch.float16).is_meta


def test_numbers_go_to_their_place_and_a_short_file_is_told():
    place = torch.zeros(3)
    fill(place, io.BytesIO(torch.tensor([1.0, 2.0, 3.0]).numpy().tobytes()))
    assert place.tolist() == [1, 2, 3]
    with pytest.raises(ValueError, match="it ends too soon"):
        fill(place, io.BytesIO(b"1234567"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float8_e4m3fn])
def test_nan_is_found_in_every_type(dtype):
    assert is_finite(torch.ones(3).to(dtype))
    assert not is_finite(torch.tensor([1.0, float("nan")]).to(dtype))
    assert is_finite(torch.ones(2, dtype=torch.int64)) and is_finite(torch.ones(2, device="meta"))


def test_a_digest_tells_names_types_shapes_and_metadata():
    one = {"a": torch.zeros(4), "b": torch.ones(2)}
    others = [
        {"a": torch.zeros(4), "c": torch.ones(2)},
        {"a": torch.zeros(2, 2), "b": torch.ones(2)},
        {"a": torch.zeros(4, dtype=torch.int32), "b": torch.ones(2)},
        {"a": torch.zeros(4), "b": torch.tensor([1.0, 2.0])},
    ]
    digests = {digest_of(one), digest_of(one, {}), *map(digest_of, others)}
    assert len(digests) == 6
    assert digest_of(dict(reversed(one.items()))) == digest_of(one)
