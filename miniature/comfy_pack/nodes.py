"""One node: the host's own vision loader knows only the large CLIPs."""

import json

import comfy.clip_vision
import comfy.utils
import folder_paths
from comfy_api.latest import ComfyExtension, io


def load_vision(path: str) -> comfy.clip_vision.ClipVisionModel:
    """A CLIP vision model whose shape stands in the file's metadata, as JSON under `config`."""
    state, metadata = comfy.utils.load_torch_file(path, return_metadata=True)
    if not metadata or "config" not in metadata:
        raise ValueError(
            f"{path} is no vision file of the miniature: its metadata has no `config`."
        )
    model = comfy.clip_vision.ClipVisionModel(json.loads(metadata["config"]))
    missing, _ = model.load_sd(state)
    if missing:
        raise ValueError(
            f"{path} is damaged: it lacks {len(missing)} weights, such as {missing[0]}."
        )
    return model


class MiniatureLoadVision(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MiniatureLoadVision",
            display_name="Load Miniature Vision",
            category="loaders/miniature",
            description="Loads the vision encoder of the miniature Stable Diffusion.",
            inputs=[
                io.Combo.Input("clip_name", options=folder_paths.get_filename_list("clip_vision"))
            ],
            outputs=[io.ClipVision.Output()],
        )

    @classmethod
    def execute(cls, clip_name: str) -> io.NodeOutput:
        return io.NodeOutput(
            load_vision(folder_paths.get_full_path_or_raise("clip_vision", clip_name))
        )


class MiniaturePack(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [MiniatureLoadVision]
