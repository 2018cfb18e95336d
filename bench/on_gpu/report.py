"""What the GPU bench found, as rows that are printed at once and as one page."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

PAGE = """\
# The pack on a GPU

`make gpu` measured this in {minutes:.1f} minutes and wrote this page; nothing in it was typed in.
Every method trained through a real server on random weights of {size}, and drew a picture
with what it had learned.

{facts}

{summary}

- **ms a step**: of the second half of the steps that the node told of; batch 1
- **GiB**: what torch had allocated at the peak of the whole workflow, training and drawing
- **s before**, **s after**: from queueing to the first step that was told of, with all that is
  loaded and encoded, and from the last one to the end, with the saved file and the drawn picture
- **again**: the same training once more, with previews in between, against the first
{tables}{left}
"""


class State(Enum):
    WELL = "ok"
    FAILED = "FAILED"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class Row:
    """One line of a table; cells: what stands in its columns."""

    cells: tuple[str, ...]
    state: State


@dataclass
class Table:
    """One part of the bench, told as it goes."""

    title: str
    columns: tuple[str, ...]
    rows: list[Row] = field(default_factory=list)
    note: str = ""
    on_row: Callable[[], None] = lambda: None

    def add(self, *cells: str, failed: bool = False, skipped: bool = False) -> None:
        """A row; cells that are not given are dashes."""
        state = State.FAILED if failed else State.SKIPPED if skipped else State.WELL
        told = tuple(" ".join(cell.split()).replace("|", "/") for cell in cells)
        self.rows.append(Row(told + ("-",) * (len(self.columns) - len(told)), state))
        print(f"{state.value:8}{self.title}: {', '.join(told)}", flush=True)
        self.on_row()

    def lines(self) -> list[str]:
        head = [f"## {self.title}", ""] + ([self.note, ""] if self.note else [])
        if not self.rows:
            return [*head, "Not reached in time."]
        lines = [self.columns, ("---",) * len(self.columns), *(row.cells for row in self.rows)]
        return head + [f"| {' | '.join(cells)} |" for cells in lines]


def page(
    facts: Iterable[str],
    tables: Iterable[Table],
    size: str,
    minutes: float,
    left: Iterable[str] = (),
) -> str:
    """The whole page, in Markdown. left: parts that were not begun."""
    tables = list(tables)
    rows = [row for table in tables for row in table.rows]
    counts = {state: sum(row.state is state for row in rows) for state in State}
    summary = f"{counts[State.WELL]} of {len(rows)} rows went well, {counts[State.FAILED]} failed"
    summary += f", {counts[State.SKIPPED]} were not reached in time."
    for table in tables:
        failed = [row.cells[0] for row in table.rows if row.state is State.FAILED]
        summary += f"\nFailed under *{table.title}*: {'; '.join(failed)}." if failed else ""
    text = "\n".join("\n".join(["", *table.lines()]) for table in tables)
    listed = "\n".join(f"- {fact}" for fact in facts)
    rest = ", ".join(left)
    rest = f"\nNot begun when this page was written: {rest}." if rest else ""
    return PAGE.format(
        facts=listed, tables=text, size=size, minutes=minutes, summary=summary, left=rest
    )


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_text(text, encoding="utf-8")
    part.replace(file)
