"""Small SAM networks of random weights, put together from the package's own parts."""

from functools import partial

import torch

SIDE = 64


def package_sam(
    seed=0, side=SIDE, width=32, depth=3, heads=2, window=3, global_blocks=(1,), channels=32
):
    """As the package's own builder does it, in small. The weights keep the size of what they get,
    so that masks of a random network are neither empty nor full."""
    from segment_anything.modeling import (
        ImageEncoderViT,
        MaskDecoder,
        PromptEncoder,
        Sam,
        TwoWayTransformer,
    )

    grid = side // 16
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        sam = Sam(
            image_encoder=ImageEncoderViT(
                depth=depth,
                embed_dim=width,
                img_size=side,
                mlp_ratio=4,
                norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
                num_heads=heads,
                patch_size=16,
                qkv_bias=True,
                use_rel_pos=True,
                global_attn_indexes=global_blocks,
                window_size=window,
                out_chans=channels,
            ),
            prompt_encoder=PromptEncoder(
                embed_dim=channels,
                image_embedding_size=(grid, grid),
                input_image_size=(side, side),
                mask_in_chans=16,
            ),
            mask_decoder=MaskDecoder(
                num_multimask_outputs=3,
                transformer=TwoWayTransformer(
                    depth=2, embedding_dim=channels, mlp_dim=64, num_heads=8
                ),
                transformer_dim=channels,
                iou_head_depth=3,
                iou_head_hidden_dim=48,
            ),
        ).eval()
        with torch.no_grad():
            for name, parameter in sam.named_parameters():
                if "rel_pos" in name or "pos_embed" in name:
                    parameter.normal_(std=0.3)
    return sam


def save_sam(path, sam=None, **changes):
    """A checkpoint as the authors publish it: the plain dictionary of tensors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save((sam or package_sam(**changes)).state_dict(), path)
    return path
