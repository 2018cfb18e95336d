"""How much memory a training step needs, counted at real shapes on tensors without memory.

    make bench ARGS=memory                       no checkpoint and no GPU, about a minute

Each method at the sizes that its base is made for, in fp16, one picture at once: the weights of
UNet and text encoders, what is learned with gradients and AdamW's moments, and the most that a step
adds. A further picture at once adds as much as the table says; a batch larger than that goes in
parts (`micro_batch`). Not counted: what the driver, a desktop and work space of convolutions take,
for which a gibibyte of each card is left alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from .costs import GIB
from .random_weights import SD15_UNET, SDXL_UNET

if TYPE_CHECKING:
    import torch

    from ..host.footprint import StepShape

CARDS = (8, 12, 16, 24)
"""Memory of usual cards, GiB."""
LEFT_ALONE = 1.0
"""GiB of a card that a training is not given."""
LEARNED_FP32 = 4  # bytes
RANK = 32


@dataclass(frozen=True)
class Method:
    """rows: through the UNet for each picture; rank: of the weights' changes, None without any"""

    title: str
    rows: int = 1
    rank: int | None = None
    maps: bool = False
    mapper: bool = False


METHODS = (
    Method("words, CatVersion"),
    Method(f"Custom Diffusion, rank {RANK}, no prior", rank=RANK),
    Method(f"Custom Diffusion, rank {RANK}, prior", rows=2, rank=RANK),
    Method(f"DETEX, rank {RANK}, prior", rows=2, rank=RANK, maps=True),
    Method("Custom Diffusion, whole, prior", rows=2, rank=0),
    Method("DETEX, whole, prior", rows=2, rank=0, maps=True),
    Method("ELITE, global stage", rank=0, mapper=True),
)


@dataclass(frozen=True)
class Setting:
    """A base at a size; fp8: whether its UNet is kept so."""

    title: str
    base: str
    side: int
    checkpointing: bool
    fp8: bool = False


SETTINGS = (
    Setting("SD1.5, 512 px", "sd1", 512, False),
    Setting("SD1.5, 512 px, checkpointing", "sd1", 512, True),
    Setting("SDXL, 768 px", "sdxl", 768, True),
    Setting("SDXL, 1024 px", "sdxl", 1024, True),
    Setting("SDXL, 1024 px, fp8", "sdxl", 1024, True, fp8=True),
)


@dataclass(frozen=True)
class Row:
    """GiB: of models, of what is learned, of a step with one picture, of each further one."""

    setting: str
    method: str
    models: float
    learned: float
    step: float
    more: float

    @property
    def total(self) -> float:
        return self.models + self.learned + self.step

    @property
    def card(self) -> str:
        """The smallest card that it fits."""
        fitting = [card for card in CARDS if self.total <= card - LEFT_ALONE]
        return f"{fitting[0]} GB" if fitting else f"more than {CARDS[-1]} GB"

    def line(self) -> str:
        fits = ["yes" if self.total <= card - LEFT_ALONE else "" for card in CARDS]
        sizes = (self.models, self.learned, self.step, self.total, self.more)
        title = f"{self.setting}: {self.method}"
        return f"| {' | '.join([title, *(f'{n:.2f}' for n in sizes), *fits])} |"

    @classmethod
    def of_line(cls, line: str) -> Row:
        """The row that a line of the table tells."""
        title, *cells = (cell.strip() for cell in line.strip().strip("|").split("|"))
        setting, method = title.split(": ")
        models, learned, step, _, more = map(float, cells[:5])
        return cls(setting, method, models, learned, step, more)


def report() -> str:
    """All settings and methods as tables of Markdown: what cards are for, and the numbers."""
    rows = [row for setting in SETTINGS for row in rows_of(setting)]
    heads = ["", "models", "learned", "step", "**sum**", "each more", *map("{} GB".format, CARDS)]
    return "\n".join([cards_table(rows), "", *_head(heads), *(row.line() for row in rows)])


def cards_table(rows: Sequence[Row]) -> str:
    """The smallest card for each method and setting, with the GiB that are needed."""
    settings = list(dict.fromkeys(row.setting for row in rows))
    cells: dict[str, list[str]] = {}
    for row in rows:
        cells.setdefault(row.method, []).append(f"{row.card} ({row.total:.1f})")
    lines = [f"| {' | '.join([method, *told])} |" for method, told in cells.items()]
    return "\n".join([*_head(["", *settings]), *lines])


def _head(cells: Sequence[str]) -> list[str]:
    return [f"| {' | '.join(cells)} |", f"|{' -- |' * len(cells)}"]


def rows_of(setting: Setting) -> list[Row]:
    """A row for each method in a setting."""
    import torch

    from ..host.footprint import StepShape, meta_unet, step_bytes, weight_bytes

    config = {"sd1": SD15_UNET, "sdxl": SDXL_UNET}[setting.base]
    kept = torch.float8_e4m3fn if setting.fp8 else torch.float16
    unet = meta_unet(config, kept)
    models = weight_bytes(unet) + weight_bytes(text_model(setting.base))
    counts: dict[StepShape, int] = {}

    def count(shape: StepShape) -> int:
        if shape not in counts:
            counts[shape] = step_bytes(unet, config, shape)
        return counts[shape]

    rows = []
    for method in METHODS:
        shape = StepShape(
            rows=method.rows,
            side=setting.side,
            dtype=torch.float16,
            weights=kept,
            checkpointing=setting.checkpointing,
            whole=method.rank == 0,
            maps=method.maps,
        )
        step, two = count(shape), count(replace(shape, rows=2 * method.rows))
        learned = learned_bytes(method, setting.base, unet)
        sizes = (models, learned, step, two - step)
        rows.append(Row(setting.title, method.title, *(size / GIB for size in sizes)))
    return rows


def learned_bytes(method: Method, base: str, unet: torch.nn.Module) -> int:
    """Of parameters and two moments, and of gradients that the step does not count."""
    from ..concepts.bases import BASES
    from ..concepts.elite import mapper_shapes
    from ..host.attention_maps import cross_attentions

    shapes = [
        tuple(attention.get_parameter(f"{name}.weight").shape)
        for attention in cross_attentions(unet).values()
        for name in ("to_k", "to_v")
    ]
    whole = sum(map(math.prod, shapes)) if method.rank == 0 else 0
    small = sum(sum(shape) for shape in shapes) * (method.rank or 0)
    if method.mapper:
        mapper = mapper_shapes(VISION_WIDTH, BASES[base].text_width)
        small += sum(map(math.prod, mapper.values()))
    return LEARNED_FP32 * (3 * whole + 4 * small)


VISION_WIDTH = 1024  # of CLIP ViT-L/14, which ELITE's encoders read


def text_model(base: str) -> Any:
    """The host's text encoders of a base in fp16, without memory."""
    import torch
    from comfy import sd1_clip, sdxl_clip

    kinds: Mapping[str, Any] = {"sd1": sd1_clip.SD1ClipModel, "sdxl": sdxl_clip.SDXLClipModel}
    return kinds[base](device="meta", dtype=torch.float16)
