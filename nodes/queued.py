"""A workflow as a page queues it, in the API format; not checked yet, so it may say anything."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

APPLY = "PersonalizeApplyConcept"
MODELS = frozenset({"model", "clip", "vae"})
"""Inputs of stock nodes, and of those like them, that no text and no conditioning comes through."""
_OURS = "Personalize"


@dataclass(frozen=True)
class Queued:
    """nodes: by id, {"class_type": ..., "inputs": {name: value, or link as [id, output]}}"""

    nodes: Mapping[str, Mapping[str, Any]]

    def __iter__(self) -> Iterator[str]:
        return iter(self.nodes)

    def kind(self, node: str) -> str:
        """The node's class, "" for a node that is not there."""
        content = self.nodes.get(node)
        return str(content.get("class_type", "")) if isinstance(content, Mapping) else ""

    def is_ours(self, node: str) -> bool:
        return self.kind(node).startswith(_OURS)

    def inputs(self, node: str) -> Mapping[str, Any]:
        content = self.nodes.get(node)
        inputs = content.get("inputs") if isinstance(content, Mapping) else None
        return inputs if isinstance(inputs, Mapping) else {}

    def source(self, node: str, name: str) -> str | None:
        """The node that an input is linked to, None when it has none."""
        return _source(self.inputs(node).get(name))

    def sources(self, node: str) -> dict[str, str]:
        """The nodes that it is linked to, by name of the input."""
        found = {name: _source(value) for name, value in self.inputs(node).items()}
        return {name: source for name, source in found.items() if source is not None}

    def chain(self, node: str, name: str) -> Iterator[str]:
        """The nodes along one input: what it is linked to, what that is linked to, and so on."""
        for _ in range(len(self.nodes)):  # a ring is refused by the host, later
            source = self.source(node, name)
            if source is None:
                return
            yield source
            node = source

    def is_loader(self, node: str) -> bool:
        """Is it there, and linked to nothing? One with other links may do anything with them."""
        return bool(self.kind(node)) and not self.sources(node)

    def texts(self) -> Iterator[tuple[str, str]]:
        """Every text that a node, none of ours, encodes with a CLIP: (node, text).

        It is written on the node, or on one that it is linked to and that is linked to nothing.
        """
        for node in self:
            if not self.is_ours(node) and self.source(node, "clip"):
                others = [at for name, at in self.sources(node).items() if name not in MODELS]
                writers = [node, *filter(self.is_loader, others)]
                values = (value for one in writers for value in self.inputs(one).values())
                yield from ((node, text) for text in values if isinstance(text, str))


def _source(value: Any) -> str | None:
    """The node that a link comes from, None for what is no link."""
    linked = isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)
    return value[0] if linked else None
