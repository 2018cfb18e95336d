"""A campaign tries cases of many kinds, each from a seed, and counts which held.

`make test` gives every kind a few seconds, `make fuzz` ten minutes in all. A failed case is named
by kind, seed and number, and can be tried again alone.
"""

import json
import os
import random
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from personalize.concepts.errors import PersonalizeError

MOST_FAILURES = 5  # of a kind, which then ends


def told(act: Callable[[], Any]) -> Any:
    """What an act gives; None when it refuses with a sentence of the pack. Raises for all else."""
    try:
        return act()
    except PersonalizeError as error:
        said = str(error)
    assert said.endswith(".") and len(said) <= 1000, said
    return None


@dataclass
class Kind:
    """What was tried of one kind, and what held."""

    name: str
    tried: int = 0
    held: int = 0
    failures: list[str] = field(default_factory=list)

    def check(self) -> None:
        assert self.tried, f"no case of {self.name} was tried"
        assert not self.failures, "\n".join(self.failures)


@dataclass(frozen=True)
class Campaign:
    """seed: of all cases; seconds: for one kind; case: the only one to try, -1 for all
    table: file that gets a line of JSON for each kind, None for none
    """

    seed: int = 0
    seconds: float = 3.0
    case: int = -1
    table: Path | None = None

    @classmethod
    def from_environment(cls) -> "Campaign":
        """As the command `fuzz` sets it, else a short one."""
        table = os.environ.get("PERSONALIZE_FUZZ_TABLE")
        return cls(
            int(os.environ.get("PERSONALIZE_FUZZ_SEED", cls.seed)),
            float(os.environ.get("PERSONALIZE_FUZZ_SECONDS", cls.seconds)),
            int(os.environ.get("PERSONALIZE_FUZZ_CASE", cls.case)),
            Path(table) if table else None,
        )

    @property
    def is_short(self) -> bool:
        return self.seconds <= Campaign.seconds

    def run(
        self,
        name: str,
        try_one: Callable[[random.Random], None],
        share: float = 1.0,
        least: int = 1,
        most: int = 10**9,
    ) -> Kind:
        """Try cases until the kind's time is over; each raises for what does not hold.

        share: of the usual time; least, most: cases, whatever the time
        """
        kind, number = Kind(name), max(self.case, 0)
        end = time.monotonic() + self.seconds * share
        while kind.tried < least or (time.monotonic() < end and kind.tried < most):
            self._try(kind, try_one, number)
            number += 1
            if self.case >= 0 or len(kind.failures) >= MOST_FAILURES:
                break
        if self.table is not None:
            with self.table.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(kind)) + "\n")
        return kind

    def _try(self, kind: Kind, try_one: Callable[[random.Random], None], number: int) -> None:
        kind.tried += 1
        try:
            try_one(random.Random(f"{self.seed} {kind.name} {number}"))
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            kind.failures.append(
                f"{kind.name}, seed {self.seed}, case {number}: {type(error).__name__}: "
                f"{str(error)[:500]} ({Path(where.filename).name}:{where.lineno})"
            )
        else:
            kind.held += 1
