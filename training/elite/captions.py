"""Prompts of an ELITE training: templates, and what they say of a zoomed picture."""

from typing import Any

from ..prompts import template_pieces
from ..templates import parse_templates
from ..zoom import ZOOMS, zoomed
from .config import EliteConfig, TrainingStage


def captions(config: EliteConfig, words: int) -> list[list[Any]]:
    """All prompts, as `PromptTable` takes them: every template, for one zoom after another."""
    templates = parse_templates(config.templates)
    zooms = ZOOMS if config.stage is TrainingStage.LOCAL and config.zoom else ZOOMS[:1]
    texts = [zoomed(template, zoom) for zoom in zooms for template in templates]
    return [template_pieces(text, [range(words)]) for text in texts]
