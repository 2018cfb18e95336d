"""Where the host's cross attention can be patched."""

import pytest

pytestmark = pytest.mark.host
from personalize.host.attention import patch_place  # noqa: E402


@pytest.mark.parametrize(
    "path, place",
    [
        ("input_blocks.1.1.transformer_blocks.0", ("input", 1, 0)),
        ("input_blocks.7.1.transformer_blocks.9", ("input", 7, 9)),  # of SDXL
        ("middle_block.1.transformer_blocks.0", ("middle", 0, 0)),
        ("output_blocks.11.1.transformer_blocks.0", ("output", 11, 0)),
    ],
)
def test_the_hosts_name_of_a_block(path, place):
    assert patch_place(path) == place


def test_every_block_of_a_model_has_a_place_of_its_own(tiny_sd1):
    paths = [
        name.removesuffix(".attn2")
        for name, _ in tiny_sd1.model.model.diffusion_model.named_modules()
        if name.endswith(".attn2")
    ]
    places = [patch_place(path) for path in paths]
    assert paths and len(set(places)) == len(places)
