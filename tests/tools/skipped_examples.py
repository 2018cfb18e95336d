"""Tests that are skipped, for test_skips.py; pytest does not collect them by itself."""

import pytest


@pytest.mark.parametrize("n", range(2))
def test_by_itself(n):
    pytest.skip("the moon is new")


@pytest.mark.skip(reason="there is no cat")
def test_by_its_mark():
    raise AssertionError
