"""Personalize: teach Stable Diffusion new concepts from a few pictures, inside ComfyUI."""

WEB_DIRECTORY = "./web"

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]


async def comfy_entrypoint():
    """Called by the host at start-up; everything is imported here, not before."""
    import gc

    collecting = gc.isenabled()
    gc.disable()  # one collection of all that the host has loaded takes longer than these imports
    try:
        from .host.versions import check_host

        check_host()
        from .nodes.extension import PersonalizeExtension
    finally:
        if collecting:
            gc.enable()
    return PersonalizeExtension()
