"""The rows of the 49408 that this world uses, and what stands in all the others.

Rows of unknown words are drawn from their number, so that a file needs to hold only known ones and
an unknown word still means the same odd thing everywhere. Names that are no people of this world
get rows near the mean of those that are.
"""

import torch

HOST_ROWS = 49408
START, END = 49406, 49407
SPREAD = 0.06


def unknown_rows(width: int) -> torch.Tensor:
    """(49408, width) float32, the same on every machine."""
    # A small integer hash instead of a random generator: no library version can change it.
    n = torch.arange(HOST_ROWS * width, dtype=torch.int64)
    total = torch.zeros(HOST_ROWS * width)
    for salt in (0x9E3779B1, 0x85EBCA6B, 0xC2B2AE35):
        h = (n * salt + salt) & 0xFFFFFFFF
        h = ((h ^ (h >> 15)) * 0x2C1B3C6D) & 0xFFFFFFFF
        h = ((h ^ (h >> 12)) * 0x297A2D39) & 0xFFFFFFFF
        total += (h ^ (h >> 15)).float() / 2**32 - 0.5
    return (total * 2 * SPREAD).reshape(HOST_ROWS, width)


def full_table(
    ids: torch.Tensor, rows: torch.Tensor, first_names: torch.Tensor, last_names: torch.Tensor
) -> torch.Tensor:
    """(49408, width) in the type of rows.

    ids, rows: the known words, (n,) and (n, width). first_names, last_names: ids of all names of
    the pack; those unknown to this world move near the mean of those it knows.
    """
    table = unknown_rows(rows.shape[1])
    known = torch.zeros(HOST_ROWS, dtype=torch.bool)
    known[ids] = True
    table[ids] = rows.float()
    for names in (first_names, last_names):
        names = names.unique()
        strangers = names[~known[names]]
        familiar = table[names[known[names]]]
        if len(familiar):
            table[strangers] = familiar.mean(0) + 0.5 * table[strangers]
    return table.to(rows.dtype)
