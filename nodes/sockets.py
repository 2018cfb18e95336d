"""What comes through the sockets of a node, checked before the node uses it.

The host compares the types of sockets, not of values: its API lets a prompt write a text in a
socket's place, and an output of any kind (``*``) may be linked to each.
"""

import inspect
from collections.abc import Callable, Mapping
from numbers import Real
from typing import Any, NamedTuple

import torch
from comfy_api.latest import io

from ..concepts.concept import Concept
from ..concepts.elite import EliteEncoder
from ..concepts.errors import PersonalizeError, shown
from ..host.progress import current_node, show_on_node
from ..host.sam import SamModel


class Kind(NamedTuple):
    """fits: of a value; expected, advice: for the sentence when it does not"""

    fits: Callable[[Any], bool]
    expected: str
    advice: str


def _has(*names: str) -> Callable[[Any], bool]:
    """Other packs have a MODEL, CLIP or VAE of their own, which does what the host's does."""
    return lambda value: all(hasattr(value, name) for name in names)


def _has_samples(value: Any) -> bool:
    return isinstance(value, Mapping) and torch.is_tensor(value.get("samples"))


def _is_a(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kind)


KINDS: dict[str, Kind] = {
    "MODEL": Kind(
        _has("model", "clone", "load_device"), "a MODEL", "Connect that of a whole checkpoint"
    ),
    "CLIP": Kind(
        _has("patcher", "clone", "tokenize"), "a CLIP", "Connect that of a whole checkpoint"
    ),
    "VAE": Kind(_has("encode", "decode"), "a VAE", "Connect that of a whole checkpoint"),
    "CLIP_VISION": Kind(_has("model", "patcher"), "a CLIP_VISION", "Connect Load CLIP Vision"),
    "IMAGE": Kind(torch.is_tensor, "pictures", "Connect an IMAGE, such as Load Image gives"),
    "MASK": Kind(torch.is_tensor, "masks", "Connect a MASK, such as Segment Subject gives"),
    "LATENT": Kind(_has_samples, "a LATENT", "Connect that of KSampler or VAE Encode"),
    "CONCEPT": Kind(
        _is_a(Concept), "a CONCEPT of this pack", "Connect Load Concept or a Train node"
    ),
    "ELITE_ENCODER": Kind(
        _is_a(EliteEncoder), "an ELITE_ENCODER of this pack", "Connect Load ELITE Encoder"
    ),
    "SAM_MODEL": Kind(
        _is_a(SamModel),
        "a SAM_MODEL of this pack",
        "Connect Load SAM of this pack, which reads the same files as those of others",
    ),
    "STRING": Kind(_is_a(str), "a text", "Connect a String"),
    "COMBO": Kind(_is_a(str), "one of its choices", "Choose one on the node"),
    "INT": Kind(_is_a(Real), "a number", "Connect an Int"),
    "FLOAT": Kind(_is_a(Real), "a number", "Connect a Float"),
}
"""By the type of a socket. The host reads what a prompt writes in a widget's place as its kind, and
leaves a link's value as it is."""


class Node(io.ComfyNode):
    """A node that does its work in `run`, which gets no value that its sockets do not take.

    Why it failed is shown on it, where one looks; the host's page tells that under a button.
    """

    @classmethod
    def execute(cls, *in_order: Any, **values: Any) -> io.NodeOutput:
        names = inspect.signature(cls.run).parameters
        try:
            return cls.run(**cls.checked(dict(zip(names, in_order, strict=False)) | values))
        except PersonalizeError as error:
            show_on_node(current_node(), str(error), failed=True)
            raise

    @classmethod
    def run(cls, **values: Any) -> io.NodeOutput:
        raise NotImplementedError

    @classmethod
    def checked(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs without the optional ones that got nothing.

        Raises PersonalizeError for what is of another kind than its socket.
        """
        schema = cls.SCHEMA or cls.GET_SCHEMA()
        sockets = {socket.id: socket for socket in schema.inputs}
        given = {}
        for name, value in values.items():
            socket = sockets.get(name)
            kept = value if socket is None else _kept(socket, value, schema.is_input_list)
            if kept is not _NOTHING:
                given[name] = kept
        return given


_NOTHING = object()


def _kept(socket: Any, value: Any, is_list: bool) -> Any:
    """A socket's value; of a list, what is something; _NOTHING where there is none."""
    if isinstance(socket, io.Autogrow.Input):
        return _kept_by_name(socket, value, is_list)
    kind = KINDS.get(socket.get_io_type())
    if kind is None:
        return value
    values = value if is_list and isinstance(value, list) else [value]
    if socket.optional:  # what a switched off node gives counts as not connected
        values = [one for one in values if one is not None]
    wrong = next((one for one in values if not kind.fits(one)), _NOTHING)
    if wrong is not _NOTHING:
        raise PersonalizeError(
            f"Expected {kind.expected} at {socket.id}, got {_described(wrong)}. {kind.advice}."
        )
    if socket.optional and not values:
        return _NOTHING
    return values if is_list else value


def _kept_by_name(socket: Any, value: Any, is_list: bool) -> dict[str, Any]:
    """Of a socket that grows: each of those that were connected."""
    if not isinstance(value, Mapping):
        raise PersonalizeError(
            f"Expected inputs {socket.id}.NAME, got {_described(value)} as {socket.id}. Connect "
            "each to a socket of its own."
        )
    return {name: _kept(socket.template.input, one, is_list) for name, one in value.items()}


def _described(value: Any) -> str:
    """A value that came instead, or what it is."""
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return f"the text '{shown(value)}'"
    if isinstance(value, bool | int | float | list | tuple | Mapping):
        return shown(value)
    return f"a {type(value).__name__}"
