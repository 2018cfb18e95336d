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


SIDE_2 = 128
HIERA_2 = {(16, (1, 1, 2, 1)): ("test", 1, (4, 2, 4, 2), (3,), SIDE_2)}
"""A small encoder of SAM 2, as `sam_second.HIERAS` has them."""


def transformers_sam2(seed=0):
    """A small SAM 2 of random weights by transformers, whose masks are neither empty nor full."""
    from transformers import (
        Sam2Config,
        Sam2HieraDetConfig,
        Sam2MaskDecoderConfig,
        Sam2Model,
        Sam2PromptEncoderConfig,
        Sam2VisionConfig,
    )

    ((width, blocks), (_, heads, windows, everywhere, side)) = next(iter(HIERA_2.items()))
    widths = [width * 2**n for n in range(4)]
    vision = Sam2VisionConfig(
        backbone_config=Sam2HieraDetConfig(
            hidden_size=width,
            num_attention_heads=heads,
            image_size=[side, side],
            window_positional_embedding_background_size=[4, 4],
            blocks_per_stage=list(blocks),
            embed_dim_per_stage=widths,
            num_attention_heads_per_stage=[heads * 2**n for n in range(4)],
            window_size_per_stage=list(windows),
            global_attention_blocks=list(everywhere),
        ),
        backbone_channel_list=widths[::-1],
        backbone_feature_sizes=[[side // n, side // n] for n in (4, 8, 16)],
        fpn_hidden_size=32,
    )
    config = Sam2Config(
        vision_config=vision,
        prompt_encoder_config=Sam2PromptEncoderConfig(hidden_size=32, image_size=side),
        mask_decoder_config=Sam2MaskDecoderConfig(
            hidden_size=32, mlp_dim=48, iou_head_hidden_dim=24
        ),
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Sam2Model(config).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.ndim > 1 or "embed" in name:
                    parameter.normal_(std=0.3)
            # one matrix for prompts and pictures, as in every checkpoint
            shared = model.prompt_encoder.shared_embedding.positional_embedding
            model.shared_image_embedding.positional_embedding.copy_(shared)
    return model


def as_the_authors_name(tensors):
    """Tensors of SAM 2 under the names of the published files, with one that is of videos alone."""
    result = {"memory_encoder.out_proj.weight": torch.zeros(3)}
    for name, tensor in tensors.items():
        if name.startswith("shared_image_embedding"):
            continue
        if name == "prompt_encoder.point_embed.weight":
            for n, row in enumerate(tensor):
                result[f"sam_prompt_encoder.point_embeddings.{n}.weight"] = row[None].clone()
            continue
        result[_authors(name)] = tensor
    return result


def _authors(name):
    if name == "no_memory_embedding":
        return "no_mem_embed"
    if name.startswith("vision_encoder.neck.convs."):
        stem, kind = name.rsplit(".", 1)
        return f"{stem}.conv.{kind}".replace("vision_encoder", "image_encoder")
    if name.startswith("vision_encoder.backbone."):
        name = name.replace("vision_encoder.backbone", "image_encoder.trunk")
    name = name.replace("patch_embed.projection", "patch_embed.proj")
    name = name.replace(".mlp.proj_in.", ".mlp.layers.0.").replace(
        ".mlp.proj_out.", ".mlp.layers.1."
    )
    if "_head." in name or "hypernetworks_mlps" in name:
        name = name.replace(".layers.0.", ".layers.1.")
        name = name.replace(".proj_in.", ".layers.0.").replace(".proj_out.", ".layers.2.")
    for n, part in {0: "conv1", 1: "layer_norm1", 3: "conv2", 4: "layer_norm2", 6: "conv3"}.items():
        name = name.replace(f".mask_embed.{part}.", f".mask_downscaling.{n}.")
    for n, part in {0: "upscale_conv1", 1: "upscale_layer_norm", 3: "upscale_conv2"}.items():
        name = name.replace(f".{part}.", f".output_upscaling.{n}.")
    name = name.replace("layer_norm", "norm").replace(".o_proj.", ".out_proj.")
    name = name.replace(
        ".shared_embedding.positional_embedding", ".pe_layer.positional_encoding_gaussian_matrix"
    )
    for part in ("prompt_encoder", "mask_decoder"):
        if name.startswith(f"{part}."):
            name = f"sam_{name}"
    return name
