"""Names of the UNet's blocks: the host's own table says the same."""

import pytest
from personalize.concepts.unet_paths import diffusers_block, host_block

NAMES = [
    ("down_blocks_0_attentions_0_transformer_blocks_0", 2, "input_blocks.1.1"),
    ("down_blocks.2.attentions.1.transformer_blocks.0", 2, "input_blocks.8.1"),
    ("mid_block_attentions_0_transformer_blocks_0", 2, "middle_block.1"),
    ("up_blocks_1_attentions_0_transformer_blocks_0", 2, "output_blocks.3.1"),
    ("up_blocks_3_attentions_2_transformer_blocks_0", 2, "output_blocks.11.1"),
    ("down_blocks_1_attentions_0_transformer_blocks_0", 1, "input_blocks.3.1"),
    ("up_blocks_1_attentions_1_transformer_blocks_0", 1, "output_blocks.3.1"),
]

SHARED = {"num_res_blocks": [2, 2, 2, 2], "channel_mult": [1, 2, 4, 4]}
UNETS = {
    "SD1 and SD2": SHARED
    | {
        "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
        "transformer_depth_output": [1] * 9 + [0] * 3,
        "transformer_depth_middle": 1,
    },
    "SDXL": {
        "num_res_blocks": [2, 2, 2],
        "channel_mult": [1, 2, 4],
        "transformer_depth": [0, 0, 2, 2, 10, 10],
        "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
        "transformer_depth_middle": 10,
    },
}
CROSS_ATTENTIONS = {"SD1 and SD2": 16, "SDXL": 70}


@pytest.mark.parametrize(("name", "res_blocks", "path"), NAMES)
def test_names_of_blocks(name, res_blocks, path):
    path = f"{path}.transformer_blocks.0"
    assert host_block(name, res_blocks) == path
    assert host_block(f"x{name}") is None
    back = diffusers_block(path, res_blocks)
    assert back is not None and back.replace(".", "_") == name.replace(".", "_")
    assert diffusers_block(f"x{path}") is None


@pytest.mark.host
@pytest.mark.parametrize("unet", UNETS)
def test_the_host_has_the_same_names(unet):
    from comfy.utils import unet_to_diffusers

    end = ".attn2.to_k.weight"
    theirs = {
        name.removesuffix(end): path.removesuffix(end)
        for name, path in unet_to_diffusers(UNETS[unet]).items()
        if name.endswith(end)
    }
    assert len(theirs) == CROSS_ATTENTIONS[unet]
    assert {name: host_block(name) for name in theirs} == theirs
    assert {diffusers_block(path): path for path in theirs.values()} == theirs
