"""Makes ComfyUI able to load the miniature: link this folder into `custom_nodes`."""


def load_clip_vision(path: str):
    """A CLIP_VISION from a file that the host's own loader does not know."""
    from .nodes import load_vision

    return load_vision(path)


async def comfy_entrypoint():
    from .model import register
    from .nodes import MiniaturePack

    register()
    return MiniaturePack()
