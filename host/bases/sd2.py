"""Stable Diffusion 2.x: OpenCLIP ViT-H/14, its last but one layer with the final norm."""

from comfy import supported_models

from ...concepts.bases import BASES
from .host_base import HostBase


class SD2(HostBase):
    base = BASES["sd2"]
    configs = (supported_models.SD20,)
