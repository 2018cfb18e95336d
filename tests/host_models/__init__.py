"""Tiny random Stable Diffusion models that the host's own loaders load.

In custom_nodes this folder makes CheckpointLoaderSimple know the two tiny families; in a test
process importing it does. `make_checkpoint` writes their files.
"""

from . import families, narrow_vae
from .checkpoints import make_checkpoint
from .families import KINDS

__all__ = ["KINDS", "NODE_CLASS_MAPPINGS", "make_checkpoint", "register"]

NODE_CLASS_MAPPINGS: dict[str, type] = {}


def register() -> None:
    """Make the host load the tiny models; a second call does nothing."""
    families.register()
    narrow_vae.register()


register()
