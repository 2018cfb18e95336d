"""Tiny random Stable Diffusion models that the host's own loaders load.

In custom_nodes this folder makes CheckpointLoaderSimple know the two tiny families; in a test
process importing it does. `make_checkpoint` writes their files.
"""

from .checkpoints import make_checkpoint
from .families import KINDS, register

__all__ = ["KINDS", "NODE_CLASS_MAPPINGS", "make_checkpoint", "register"]

NODE_CLASS_MAPPINGS: dict[str, type] = {}

register()
