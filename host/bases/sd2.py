"""Stable Diffusion 2.x: OpenCLIP ViT-H/14, its last but one layer with the final norm."""

from comfy import supported_models
from comfy.model_base import ModelType
from comfy.model_patcher import ModelPatcher

from ...concepts.bases import BASES
from .host_base import HostBase


class SD2(HostBase):
    base = BASES["sd2"]
    configs = (supported_models.SD20,)

    def resolution(self, model: ModelPatcher) -> int:
        """768 px with v-prediction; the models that predict the noise were made for 512."""
        with_velocity = model.model.model_type is ModelType.V_PREDICTION
        return self.base.resolution if with_velocity else 512
