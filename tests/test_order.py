"""The dearest files of tests come first, each as a whole."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from personalize.tests.order import dearest_first


@dataclass
class Item:
    """A test, as far as the order asks it."""

    path: Path
    number: int
    marks: list = field(default_factory=list)

    def iter_markers(self):
        return iter(self.marks)


def items(name, count, *marks):
    return [Item(Path(name), n, [getattr(pytest.mark, mark).mark for mark in marks])
            for n in range(count)]  # fmt: skip


def test_dear_files_come_first_and_stay_whole():
    many, few = items("many", 20, "host"), items("few", 2, "server", "slow")
    pages, other = items("pages", 3, "browser"), items("other", 20, "host")
    assert dearest_first([*many, *pages, *other, *few]) == [*few, *pages, *many, *other]
