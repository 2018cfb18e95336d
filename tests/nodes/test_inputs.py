"""An input of a config's field has the field's type and default."""

from dataclasses import dataclass
from enum import Enum

import pytest
from personalize.nodes.inputs import default_of, setting
from personalize.training.config import LoopConfig

pytestmark = pytest.mark.host


class Way(str, Enum):
    NEAR = "near"
    FAR = "far"


@dataclass(frozen=True, kw_only=True)
class Config(LoopConfig):
    needed: str
    way: Way = Way.FAR
    amount: float = 0.5
    count: int = 3
    on: bool = True
    words: str = "a dog"


@pytest.mark.parametrize(
    ("name", "kind", "default"),
    [
        ("way", "COMBO", "far"),
        ("amount", "FLOAT", 0.5),
        ("count", "INT", 3),
        ("on", "BOOLEAN", True),
        ("words", "STRING", "a dog"),
    ],
)
def test_type_and_default(name, kind, default):
    made = setting(Config, name, "What it does.", optional=True, advanced=True)
    assert (made.id, made.get_io_type(), made.default) == (name, kind, default)
    assert (made.tooltip, made.optional, made.advanced) == ("What it does.", True, True)
    assert default_of(Config, name) == default


def test_limits_are_passed_on():
    made = setting(Config, "amount", "", min=0.0, max=2.0, step=0.1)
    assert (made.min, made.max, made.step) == (0.0, 2.0, 0.1)


def test_a_field_without_a_default_is_no_setting():
    with pytest.raises(KeyError, match="Config.needed has no default"):
        setting(Config, "needed", "")
