"""Texts as rows of the text tower's small table."""

from ..comfy_pack.vocabulary import END, START
from ..host import tokens

STAND_INS = 192


class Vocabulary:
    """Known token ids in order; rows after them stand in for unknown words while training."""

    def __init__(self, ids: list[int]) -> None:
        self.ids = ids
        self.row = {token: n for n, token in enumerate(ids)}

    def encode(self, text: str, length: int) -> tuple[list[int], int]:
        """Rows [start, words..., end, padding...] and the position of the end."""
        words = [self.row.get(t, len(self.ids) + t % STAND_INS) for t in tokens(text)][: length - 2]
        rows = [self.row[START], *words] + [self.row[END]] * (length - 1 - len(words))
        return rows, len(words) + 1
