"""Makes ComfyUI able to load the miniature: link this folder into `custom_nodes`."""


async def comfy_entrypoint():
    from .model import register
    from .nodes import MiniaturePack

    register()
    return MiniaturePack()
