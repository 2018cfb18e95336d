"""Well-known names, whose mean words Cross Initialization starts from."""

from functools import cache
from importlib.resources import files


@cache
def known_names() -> tuple[tuple[str, str], ...]:
    """(first, last) of the people in ``names.txt``, each one token of the CLIP vocabulary."""
    text = files(__name__.rpartition(".")[0]).joinpath("names.txt").read_text(encoding="utf-8")
    return tuple((first, last) for first, last in (line.split() for line in text.splitlines()))
