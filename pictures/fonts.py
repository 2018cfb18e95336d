"""The font of sheets: Pillow's own, or one of the system for the scripts that it lacks."""

import re
from functools import lru_cache

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_EAST_ASIAN = re.compile("[\u1100-\u11ff\u2e80-\u9fff\uac00-\ud7ff\uf900-\ufaff\uff00-\uffef]")
_SYSTEM_FONTS = (
    *("NotoSansCJK-Regular.ttc", "NotoSansSC-Regular.otf", "wqy-microhei.ttc"),  # Linux
    *("msyh.ttc", "malgun.ttf", "simsun.ttc"),  # Windows
    *("PingFang.ttc", "Hiragino Sans GB.ttc", "AppleSDGothicNeo.ttc"),  # macOS
)


@lru_cache(maxsize=32)
def east_asian_font(size: int) -> Font | None:
    """A font of this system with Chinese, Japanese and Korean letters; None when it has none."""
    return next(filter(None, (_system_font(name, size) for name in _SYSTEM_FONTS)), None)


def _system_font(name: str, size: int) -> Font | None:
    try:
        return ImageFont.truetype(name, size)  # looks in the system's folders
    except OSError:
        return None


def font_for(text: str, size: int) -> Font:
    """A font that has the text's letters, as far as there is one. `size` in pixels."""
    found = east_asian_font(size) if _EAST_ASIAN.search(text) else None
    return found or ImageFont.load_default(size)


def letters_in(text: str, width: float, size: int) -> int:
    """How many of such letters stand side by side in a width in pixels, at least four."""
    widest = "\u56fd" if _EAST_ASIAN.search(text) else "n"
    return max(4, int(width / font_for(text, size).getlength(widest)))
