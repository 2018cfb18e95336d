"""What may stand in the description of a file: the metadata, and the JSON in it.

A description comes from outside. Each value is checked where it is read, and an error tells which
one is wrong without repeating it whole.
"""

import json
from collections.abc import Mapping
from typing import Any

from .errors import shown

MOST_TEXT = 200
"""Characters of a name, a class word or a placeholder."""
_DEEPEST = 32  # dictionaries and lists in each other


class SchemaError(ValueError):
    """A value that is missing or wrong; the message names it, for the middle of a sentence."""


def text(values: Mapping[str, Any], key: str, default: str | None = None) -> str:
    """A text of at most 200 characters. default: in the place of a missing one"""
    value = values.get(key, default)
    if not isinstance(value, str):
        raise _wrong(values, key, "a text")
    if len(value) > MOST_TEXT:
        raise _wrong(values, key, f"at most {MOST_TEXT} characters")
    return value


def whole_number(values: Mapping[str, Any], key: str, low: int, high: int) -> int:
    """A number of a range, as JSON has it or as text in metadata."""
    value = values.get(key)
    expected = f"a whole number of {low} to {high}"
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        value = int(value)
    if type(value) is not int or not low <= value <= high:
        raise _wrong(values, key, expected)
    return value


def texts(values: Mapping[str, Any], key: str) -> dict[str, str]:
    """Texts by name, from the JSON of a dictionary; none where the key is missing."""
    found = json_object(values.get(key, "{}"))
    if (key in values and not found) or len(found) > MOST_TEXT:
        raise _wrong(values, key, "some texts by name")
    return {name: text(found, name) for name in found}


def json_object(written: str) -> dict[str, Any]:
    """The dictionary in a JSON text; empty for anything else, and for brackets without end."""
    try:
        value = json.loads(written)
    except (ValueError, RecursionError):  # no JSON, numbers of thousands of digits
        return {}
    return value if isinstance(value, dict) and _is_shallow(value) else {}


def _is_shallow(value: Any) -> bool:
    level = [value]
    for _ in range(_DEEPEST):
        inner = [v for one in level for v in (one.values() if isinstance(one, dict) else one)]
        level = [one for one in inner if isinstance(one, dict | list)]
        if not level:
            return True
    return False


def _wrong(values: Mapping[str, Any], key: str, expected: str) -> SchemaError:
    if key not in values:
        return SchemaError(f"'{key}'")
    return SchemaError(f"'{key}', which is '{shown(values[key])}' in the place of {expected}")
