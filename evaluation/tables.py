"""Scores as JSON and CSV."""

import csv
import io
import json
from enum import Enum

from .evaluate import Evaluation

DIGITS = 6


class TableFormat(str, Enum):
    """The value is also the suffix of the file."""

    CSV = "csv"
    JSON = "json"


def as_table(evaluation: Evaluation, kind: TableFormat) -> str:
    return as_csv(evaluation) if kind is TableFormat.CSV else as_json(evaluation)


def as_json(evaluation: Evaluation) -> str:
    """``means``: by score; ``pictures``: of each its prompt and scores."""
    pictures = [
        {"prompt": prompt} | {name: round(value, DIGITS) for name, value in row.items()}
        for prompt, row in _rows(evaluation)
    ]
    means = {name: round(value, DIGITS) for name, value in evaluation.means.items()}
    return json.dumps({"means": means, "pictures": pictures}, indent=2, ensure_ascii=False)


def as_csv(evaluation: Evaluation) -> str:
    """A row a picture, then one of the means, whose ``picture`` is ``mean``."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["picture", "prompt", *evaluation.means])
    for number, (prompt, row) in enumerate(_rows(evaluation)):
        writer.writerow([number + 1, prompt, *(f"{value:.{DIGITS}f}" for value in row.values())])
    writer.writerow(["mean", "", *(f"{v:.{DIGITS}f}" for v in evaluation.means.values())])
    return file.getvalue()


def _rows(evaluation: Evaluation) -> list[tuple[str, dict[str, float]]]:
    return [
        (prompt, {name: values[n] for name, values in evaluation.per_picture.items()})
        for n, prompt in enumerate(evaluation.prompts)
    ]
