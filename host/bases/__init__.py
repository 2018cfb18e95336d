"""Every base model that the pack knows: a file here, and a line in the list."""

from .host_base import HostBase
from .sd1 import SD1
from .sd2 import SD2
from .sdxl import SDXL

HOST_BASES: tuple[HostBase, ...] = (
    SD1(),
    SD2(),
    SDXL(),
)
