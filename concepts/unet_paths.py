"""Places of Stable Diffusion's UNet by name: those of the host, and those of diffusers.

Both count its blocks, the host through all resolutions (``input_blocks.4.1``), diffusers within one
(``down_blocks.1.attentions.0``). The arithmetic holds for Stable Diffusion 1.x, 2.x and XL, which
have two residual blocks a resolution on the way down and three on the way up.
"""

import re
from collections.abc import Iterable

RES_BLOCKS = 2

_DIFFUSERS = re.compile(
    r"(down|up)_blocks[._](\d+)[._]attentions[._](\d+)[._]transformer_blocks[._](\d+)"
    r"|mid_block[._]attentions[._]0[._]transformer_blocks[._](\d+)"
)
_HOST = re.compile(
    r"(input|output)_blocks\.(\d+)\.1\.transformer_blocks\.(\d+)"
    r"|middle_block\.1\.transformer_blocks\.(\d+)"
)


def host_block(name: str, res_blocks: int = RES_BLOCKS) -> str | None:
    """The host's path of a transformer block from its name in diffusers, None for another name.

    name: with `.` or `_` between its parts, such as down_blocks_0_attentions_1_transformer_blocks_0
    res_blocks: residual blocks of a resolution
    """
    match = _DIFFUSERS.fullmatch(name)
    if match is None:
        return None
    way, level, number, depth, mid = match.groups()
    if way is None:
        return f"middle_block.1.transformer_blocks.{mid}"
    index = (res_blocks + 1) * int(level) + int(number)
    if way == "up":
        return f"output_blocks.{index}.1.transformer_blocks.{depth}"
    return f"input_blocks.{index + 1}.1.transformer_blocks.{depth}"


def diffusers_block(path: str, res_blocks: int = RES_BLOCKS) -> str | None:
    """The name in diffusers of a transformer block from the host's path, None for another path."""
    match = _HOST.fullmatch(path)
    if match is None:
        return None
    way, index, depth, mid = match.groups()
    if way is None:
        return f"mid_block.attentions.0.transformer_blocks.{mid}"
    if way == "output":
        level, number = divmod(int(index), res_blocks + 1)
        return f"up_blocks.{level}.attentions.{number}.transformer_blocks.{depth}"
    level, number = divmod(int(index) - 1, res_blocks + 1)
    return f"down_blocks.{level}.attentions.{number}.transformer_blocks.{depth}"


def res_blocks_of(paths: Iterable[str]) -> int:
    """Residual blocks of a resolution in a UNet that has these transformer blocks.

    The host counts one step between two resolutions with the blocks of the way down, so no
    transformer has the number of such a step. Where several counts fit, it is Stable Diffusion's.
    """
    numbers = {
        int(match[2]) for path in paths if (match := _HOST.match(path)) and match[1] == "input"
    }
    counts = (RES_BLOCKS, *(n for n in range(1, 5) if n != RES_BLOCKS))
    return next((n for n in counts if all(number % (n + 1) for number in numbers)), RES_BLOCKS)
