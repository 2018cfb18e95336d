"""Object patches of a CLIP: what takes the place of its encoding, and of layers' self-attention.

A patch stands for a function of a module, under its path, and the host puts it there while the
CLIP is loaded. So it is part of a clone, and the user's own CLIP never sees it.
"""

from collections.abc import Callable
from typing import Any

from comfy.sd import CLIP

from .prompt_tokens import Encoded, Tokens

Encode = Callable[[Tokens], Encoded]
_ENCODE = "encode_token_weights"


def patch_encoding(clip: CLIP, kind: type, make: Callable[[Encode], Any]) -> None:
    """Let `make(what encodes prompts now)` encode the prompts of a clone of a CLIP that is ours.

    kind: of what is made; where one stands already, it stays
    """
    encode: Any = clip.patcher.get_model_object(_ENCODE)
    if not isinstance(encode, kind):
        clip.patcher.add_object_patch(_ENCODE, make(encode))
