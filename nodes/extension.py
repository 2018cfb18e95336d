"""What the host asks for when it loads the pack."""

from functools import partial

from comfy_api.latest import ComfyExtension, io
from typing_extensions import override

from ..host.browsers import before_each_prompt, host_routes
from ..host.folders import register_folders
from ..host.shelf import saved_cards
from . import NODE_CLASS_MAPPINGS
from .live_routes import add_live_routes
from .routes import add_routes
from .unapplied import look_at


class PersonalizeExtension(ComfyExtension):
    @override
    async def on_load(self) -> None:
        register_folders()
        add_routes(host_routes())
        add_live_routes(host_routes())
        before_each_prompt(partial(look_at, saved=saved_cards))

    @override
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return list(NODE_CLASS_MAPPINGS.values())
