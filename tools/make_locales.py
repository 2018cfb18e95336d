"""Write locales/<language>/nodeDefs.json, the node texts in the languages of the browser.

English comes from the nodes' own schemas. Chinese comes from tools/phrases_zh.json, which holds
each English text once and its translation, so that a changed text asks for a new one. The texts of
the scripts, locales/<language>/main.json, are written by hand.

    python tools/run.py make_locales           write; names the texts without a translation
    python tools/run.py make_locales --check   write nothing, tell whether everything is up to date
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..cli.comfyui import ROOT, prepare_host

LOCALES = ROOT / "locales"
PHRASES = ROOT / "tools" / "phrases_zh.json"

Translate = Callable[[str], str]


def node_texts(translate: Translate = str) -> dict[str, Any]:
    """All texts of all nodes in the shape of nodeDefs.json; needs the host."""
    from ..nodes import NODE_CLASS_MAPPINGS

    return {
        node_id: _texts_of(node.GET_SCHEMA(), translate)
        for node_id, node in sorted(NODE_CLASS_MAPPINGS.items())
    }


def _texts_of(schema: Any, translate: Translate) -> dict[str, Any]:
    return {
        "display_name": translate(schema.display_name),
        "description": translate(schema.description),
        "inputs": {
            one.id: {"name": translate(one.id), "tooltip": translate(one.tooltip)}
            for one in schema.inputs
        },
        "outputs": {
            str(n): {"name": translate(one.display_name)} for n, one in enumerate(schema.outputs)
        },
    }


def phrases(texts: Any) -> Iterator[str]:
    """Every text in the shape of nodeDefs.json."""
    if isinstance(texts, str):
        yield texts
    else:
        for part in texts.values():
            yield from phrases(part)


def read_phrases() -> dict[str, str]:
    return json.loads(PHRASES.read_text(encoding="utf-8"))


def locales() -> dict[Path, dict[str, Any]]:
    """What each generated file holds. A text without a translation stays English."""
    chinese = read_phrases()
    return {
        LOCALES / "en" / "nodeDefs.json": node_texts(),
        LOCALES / "zh" / "nodeDefs.json": node_texts(lambda text: chinese.get(text, text)),
    }


def as_text(content: dict[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    check = parser.parse_args(arguments).check
    prepare_host()
    from ..host.folders import register_folders

    register_folders()
    stale = []
    for path, content in locales().items():
        if path.exists() and path.read_text(encoding="utf-8") == as_text(content):
            continue
        stale.append(str(path.relative_to(ROOT)))
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(as_text(content), encoding="utf-8")
    wanted, known = set(phrases(node_texts())), set(read_phrases())
    for text in sorted(wanted - known):
        print(f"no translation: {text}")
    for text in sorted(known - wanted):
        print(f"no longer used: {text}")
    for name in stale:
        print(f"{'stale' if check else 'written'}: {name}")
    return 1 if wanted != known or (check and stale) else 0
