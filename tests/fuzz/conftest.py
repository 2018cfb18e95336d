"""The campaign that all kinds share."""

import pytest
from personalize.tests.fuzz.campaign import Campaign


@pytest.fixture(scope="session")
def campaign() -> Campaign:
    return Campaign.from_environment()
