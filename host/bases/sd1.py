"""Stable Diffusion 1.x: CLIP ViT-L/14, its last layer with the final norm."""

from comfy import supported_models

from ...concepts.bases import BASES
from .host_base import HostBase


class SD1(HostBase):
    base = BASES["sd1"]
    configs = (supported_models.SD15,)
