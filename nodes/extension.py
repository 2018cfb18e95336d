"""What the host asks for when it loads the pack."""

from comfy_api.latest import ComfyExtension, io
from typing_extensions import override

from ..host.browsers import host_routes
from ..host.folders import register_folders
from . import NODE_CLASS_MAPPINGS
from .live_routes import add_live_routes
from .routes import add_routes


class PersonalizeExtension(ComfyExtension):
    @override
    async def on_load(self) -> None:
        register_folders()
        add_routes(host_routes())
        add_live_routes(host_routes())

    @override
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return list(NODE_CLASS_MAPPINGS.values())
