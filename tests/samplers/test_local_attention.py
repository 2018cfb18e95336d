"""How much of a picture's details acts, and when: numbers that can be."""

import pytest
from personalize.concepts.errors import PersonalizeError
from personalize.samplers.local_attention import Details

pytestmark = pytest.mark.host


@pytest.mark.parametrize("details", [Details(), Details(0, 0, 1), Details(2, 0.3, 0.3)])
def test_details_that_can_be(details):
    assert details.check() is None and details.start <= details.end


@pytest.mark.parametrize(
    ("details", "message"),
    [
        (Details(-0.1), "local_strength of 0 or more, such as 0.8, got -0.1"),
        (Details(float("nan")), "local_strength of 0 or more"),
        (Details(float("inf")), "local_strength of 0 or more"),
        (Details(1, 0.6, 0.5), "start_percent <= end_percent <= 1, got 0.6 and 0.5"),
        (Details(1, 0.0, 1.1), "got 0.0 and 1.1"),
        (Details(1, float("nan"), 1.0), "0 <= start_percent"),
    ],
)
def test_details_that_cannot_be(details, message):
    with pytest.raises(PersonalizeError, match=message):
        details.check()
