"""Which of the frontend's two renderers a dear test is run in, and when."""

import pytest
from personalize.tools.server.page import Renderer

CANVAS_AT_NIGHT = pytest.mark.parametrize(
    "renderer",
    [Renderer.NODES_2, pytest.param(Renderer.CANVAS, marks=pytest.mark.nightly)],
    ids=lambda renderer: renderer.value,
    indirect=True,
)
"""For a test whose point is the same in both: Nodes 2.0 has more to go wrong."""
