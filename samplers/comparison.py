"""A comparison: concepts at strengths, each drawn with the same prompts and the same noise."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..concepts.cards import card_of
from ..concepts.concept import Concept
from ..concepts.errors import PersonalizeError
from ..concepts.placeholders import find_placeholders

MOST_PICTURES = 400


@dataclass(frozen=True)
class ComparisonRow:
    """One concept at one strength: a row of pictures, one a prompt.

    label: lines that tell it from the other rows
    """

    concept: Concept
    strength: float
    label: tuple[str, ...]

    def prompt(self, line: str) -> str:
        """A line as this concept's prompt: {} is what to write for it, {class} its class word.

        Raises PersonalizeError for a line that does not name the concept.
        """
        written = line.replace("{}", card_of(self.concept).write)
        written = written.replace("{class}", self.concept.class_word)
        names = {mention.placeholder for mention in find_placeholders(written)}
        if self.concept.placeholder not in names:
            raise PersonalizeError(
                f"The prompt '{line}' does not name {self.concept.placeholder}, so that row would "
                "show no concept. Write {} where the concept stands, such as: a photo of {} on the "
                "beach."
            )
        return written


def rows_of(concepts: Sequence[Concept], strengths: Sequence[float]) -> list[ComparisonRow]:
    """Every concept at every strength, concept by concept. Raises PersonalizeError for none."""
    if not concepts:
        raise PersonalizeError("There is no concept to compare. Connect at least one.")
    names = [_name(concept) for concept in concepts]
    rows = []
    for number, (concept, name) in enumerate(zip(concepts, names, strict=True), start=1):
        label = (*name, f"number {number}") if names.count(name) > 1 else name
        for strength in strengths:
            told = (f"strength {strength:g}",) if len(strengths) > 1 else ()
            rows.append(ComparisonRow(concept, strength, (*label, *told)))
    return rows


def _name(concept: Concept) -> tuple[str, ...]:
    steps = concept.training.get("steps_taken")
    told = (f"{steps} steps",) if isinstance(steps, int) else ()
    return (concept.placeholder, concept.method.title, *told)


def read_strengths(text: str) -> list[float]:
    """Numbers with commas, blanks or lines between them. Raises PersonalizeError."""
    written = re.split(r"[\s,;]+", text.strip())
    try:
        numbers = [float(number) for number in written if number]
    except ValueError as error:
        raise PersonalizeError(
            f"'{text.strip()}' are no strengths. Expected numbers with commas between them, such "
            "as 0.5, 1."
        ) from error
    if not numbers:
        raise PersonalizeError("There is no strength. Write 1, or several: 0.5, 1.")
    return numbers


def read_lines(text: str) -> list[str]:
    """The prompts of a text, one a line. Raises PersonalizeError for none."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines:
        raise PersonalizeError(
            "There is no prompt. Write at least one line, such as: a photo of {} on the beach."
        )
    return lines


def check_size(rows: Sequence[ComparisonRow], lines: Sequence[str]) -> None:
    """Refuse what would draw for hours by mistake."""
    count = len(rows) * len(lines)
    if count > MOST_PICTURES:
        raise PersonalizeError(
            f"{len(rows)} rows of {len(lines)} prompts are {count} pictures. Expected "
            f"{MOST_PICTURES} at most: compare fewer concepts, strengths or prompts at once."
        )
