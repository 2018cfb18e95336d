"""The frozen Stable Diffusion that a concept is learned on, as differentiable functions."""

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from enum import Enum
from typing import Any

import torch
from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP
from torch import Tensor, nn

from ..concepts.bases import Base
from ..concepts.errors import BaseModelError
from .attention_maps import AttentionReader, cross_attentions, nearest_side
from .autograd import (
    addresses,
    checkpointed,
    differentiable,
    first_row_detached,
    is_quantised,
    replaced_weights,
)
from .base_models import base_of_model, check_pair
from .cast_once import Types, cast_bytes, cast_once
from .denoiser import CELL, Denoiser
from .footprint import DeviceMemory, StepShape, needed, shapes_text, weight_bytes
from .frozen_layers import frozen_layers, in_type
from .loading import load_whole, plain_clone, training, uncompiled, unload, unload_others
from .low_rank import Product, added_products
from .repeatable import repeatable
from .text_encoder import TextEncoder


class Precision(str, Enum):
    """Compute type of the UNet in training; `auto` is what the host samples with."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"

    @property
    def dtype(self) -> torch.dtype | None:
        types = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
        return types.get(self.value)


class Backbone:
    """MODEL and CLIP as differentiable functions. The user's own objects are never changed.

    Use `text` and `denoiser` inside `session`; let others use the models inside `paused`.
    """

    def __init__(
        self,
        model: ModelPatcher,
        clip: CLIP,
        precision: Precision = Precision.AUTO,
        gradient_checkpointing: bool = False,
        *,
        keep_activations: bool = False,
    ) -> None:
        """keep_activations: no checkpointing that is not asked for, on any base"""
        check_pair(model, clip)
        self._host_base = base_of_model(model)
        self._host_base.check_trainable(model)
        self._model, self._clip = _own_clone(model, precision), _own_clip(clip)
        pairs = ((self._model, model), (self._clip.patcher, clip.patcher))
        self._beside = [ours for ours, users in pairs if not ours.is_clone(users)]
        self._checkpointing = gradient_checkpointing or (
            self._host_base.checkpointing and not keep_activations
        )
        self.text = TextEncoder(self._clip)
        self.denoiser = Denoiser(self._model, self._host_base)
        self._stack = ExitStack()
        self._trained: dict[nn.Module, nn.Parameter] = {}
        self._products: dict[nn.Module, Product] = {}
        self._first_detached: tuple[nn.Module, ...] = ()
        self._before_moving: list[Callable[[], None]] = []
        self._cast: Types = {}

    @property
    def base(self) -> Base:
        return self._host_base.base

    @property
    def resolution(self) -> int:
        """Side in pixels of the pictures that the MODEL was trained on."""
        return self._host_base.resolution(self._model)

    @property
    def width(self) -> int:
        """Width of a word: its vectors in all text encoders, side by side."""
        return self.text.width

    def split(self, words: Tensor) -> Sequence[Tensor]:
        """The part of each text encoder in words (..., width)."""
        return self.text.split(words)

    @property
    def device(self) -> torch.device:
        return self.denoiser.device

    @property
    def compute_dtype(self) -> torch.dtype:
        """Type that the UNet computes in."""
        return _compute_dtype(self._model)

    @property
    def latent_side(self) -> int:
        """Side of the session's latents."""
        return self._latent_shape[-1]

    @contextmanager
    def session(self, latent_shape: tuple[int, ...]) -> Iterator[None]:
        """Load the models and give them gradients; latent_shape (B, C, h, w) sizes the memory."""
        self._latent_shape = latent_shape
        with torch.inference_mode(False), torch.enable_grad():
            try:
                self._enter()
                yield
            finally:
                self._tell_moving()
                self._before_moving = []
                self._stack.close()
                self._trained, self._products, self._first_detached = {}, {}, ()
                self._cast = {}
                for patcher in self._beside:
                    unload(patcher)  # the user's own model needs the room

    @contextmanager
    def paused(self, *, others_stay: bool = False) -> Iterator[None]:
        """Inside a session: a block in which the host may load, patch and sample as it likes.

        others_stay: leave on the device what it loads, for a block that comes with every step
        """
        places = self._places() if others_stay else None
        if places is None:
            self._tell_moving()
        self._stack.close()
        try:
            with torch.inference_mode():
                yield
        finally:
            self._enter(others_stay)
            if places is not None and places != self._places():
                self._tell_moving()

    def before_moving(self, do: Callable[[], None]) -> None:
        """Call something, to the session's end, whenever the models' weights may get other places
        in memory: before a pause that gives all memory free, and after one in which they moved."""
        self._before_moving.append(do)

    def _tell_moving(self) -> None:
        for do in self._before_moving:
            do()

    def _places(self) -> list[tuple[int, ...]]:
        """Addresses of all weights, if anybody wants to know."""
        if not self._before_moving:
            return []
        modules = (self._model.model, self._clip.cond_stage_model)
        weights = [w for m in modules for kind in (m.parameters(), m.buffers()) for w in kind]
        return [addresses(weight) for weight in weights]

    def open_projections(self) -> dict[str, nn.Parameter]:
        """Trainable fp32 copies of the key and value weights of every cross attention, by path.

        From here to its end the session computes with them, in backward passes too; the user's own
        weights are never touched. Inside `paused` the host has its own.
        """
        layers = self._projections()
        copies = {path: _fp32_copy(layer.weight) for path, layer in layers.items()}
        self._trained |= {layers[path]: copy for path, copy in copies.items()}
        self._stack.enter_context(replaced_weights(self._trained))
        return copies

    def projection_shapes(self) -> dict[str, tuple[int, int]]:
        """Shapes (out, in) of the key and value weights of every cross attention, by path."""
        shapes = {path: layer.weight.shape for path, layer in self._projections().items()}
        return {path: (rows, columns) for path, (rows, columns) in shapes.items()}

    def add_products(self, products: Mapping[str, Product]) -> None:
        """Add products to these weights by path, as long as `open_projections` changes them."""
        layers = self._projections()
        added = {layers[path]: product for path, product in products.items()}
        self._products |= added
        self._stack.enter_context(added_products(added))

    def detach_first_token(self) -> None:
        """From here to the session's end no gradient reaches keys and values through a prompt's
        first token, its begin. To be called after what changes them is there."""
        self._first_detached = tuple(self._projections().values())
        self._stack.enter_context(first_row_detached(self._first_detached))

    def cast_bytes(self) -> int:
        """Memory that `cast_once` needs."""
        return cast_bytes(self._types(), self._trained)

    def cast_once(self) -> None:
        """From here to the session's end hold weights in the types that are computed in, instead of
        casting them at each use."""
        self._cast = self._types()
        self._tell_moving()
        self._stack.enter_context(cast_once(self._cast, self._trained))

    def _types(self) -> Types:
        text = {tower.text_model: torch.float32 for tower in self.text.towers}
        return {self._model.model.diffusion_model: self.compute_dtype, **text}

    def _projections(self) -> dict[str, Any]:
        return self._host_base.projections(self._model.model.diffusion_model)

    def attention_reader(self, wanted_side: int) -> AttentionReader:
        """Reads the cross attentions whose maps have that side, or else the nearest one there is.

        One pass of the UNet without gradients finds the sides, inside a session.
        """
        every = cross_attentions(self._model.model.diffusion_model)
        if not every:
            raise BaseModelError("This MODEL has no cross attention, so a prompt cannot steer it.")
        probe = AttentionReader(every)
        latent = torch.zeros(1, *self._latent_shape[1:], device=self.device)
        with probe.reading(), torch.no_grad():
            empty = self.text.encode(self.text.prompts([""]))
            self.denoiser.predict(latent, latent, torch.zeros(1, dtype=torch.long), empty)
        sides = probe.sides()
        side = nearest_side(list(sides.values()), wanted_side)
        if side != wanted_side:
            logging.warning(
                f"This MODEL has no cross attention at {wanted_side} x {wanted_side}; attention "
                f"maps are read at {side} x {side}."
            )
        return AttentionReader({path: every[path] for path in sides if sides[path] == side})

    def memory(self) -> DeviceMemory | None:
        """The device's memory; None on a CPU, where other programs and a swap file share it."""
        return None if self.device.type == "cpu" else DeviceMemory.of(self.device)

    def step_bytes(self, rows: int, *, maps: bool = False) -> int:
        """About how much a step needs beside models and what is trained, inside a session.

        rows: through the UNet at once; maps: whether attention maps are read
        """
        unet = self._model.model.diffusion_model
        types = Counter(weight.dtype for weight in unet.parameters() if weight.ndim > 1)
        shape = StepShape(
            rows=rows,
            side=self.latent_side * CELL,
            dtype=self.compute_dtype,
            weights=types.most_common(1)[0][0],
            checkpointing=self._checkpointing,
            whole=bool(self._trained),
            maps=maps,
        )
        return needed(shapes_text(self._model.model.model_config.unet_config), shape)

    def model_bytes(self) -> int:
        """Of the models' weights."""
        modules = (self._model.model, self._clip.cond_stage_model)
        return sum(weight_bytes(module) for module in modules)

    def fingerprint(self) -> list[str]:
        """Tells these weights, patches and compute type from others by a few numbers a weight."""
        text = self._host_base.read_modules([tower.tower for tower in self.text.towers])
        modules = (self._model.model.diffusion_model, *text)
        digest = hashlib.sha256()
        for module in modules:
            for name, weight in module.named_parameters():
                weight = in_type(weight, weight.dtype)
                ends = torch.cat([weight.flatten()[:8], weight.flatten()[-8:]])
                digest.update(f"{name} {ends.cpu().double().tolist()}".encode())
        patches = [
            f"{key} {[patch[0] for patch in applied]}"
            for patcher in (self._model, self._clip.patcher)
            for key, applied in sorted(patcher.patches.items())
        ]
        return [digest.hexdigest(), str(self.compute_dtype), *patches]

    def _enter(self, others_stay: bool = False) -> None:
        self._stack = ExitStack()
        patchers = [self._model, self._clip.patcher]
        if not others_stay:  # such as the VAE, which has encoded the pictures
            unload_others(patchers)
        # activations kept for the backward pass need several times a forward pass's memory
        memory = 3 * self._model.memory_required(list(self._latent_shape))
        load_whole(patchers, memory)
        self._stack.enter_context(training())
        self._stack.enter_context(repeatable())
        self._stack.enter_context(differentiable(self._model.model, self._clip.cond_stage_model))
        self._stack.enter_context(cast_once(self._cast, self._trained))
        self._stack.enter_context(replaced_weights(self._trained))
        self._stack.enter_context(added_products(self._products))
        self._stack.enter_context(
            frozen_layers(self._model.model.diffusion_model, self._clip.cond_stage_model)
        )
        self._stack.enter_context(first_row_detached(self._first_detached))
        if self._checkpointing:
            self._stack.enter_context(checkpointed(self._model.model.diffusion_model))


def _own_clone(model: ModelPatcher, precision: Precision) -> ModelPatcher:
    clone = uncompiled(plain_clone(model))
    dtype = precision.dtype
    if dtype is None and is_quantised(clone.model):
        dtype = _compute_dtype(clone)  # asked for, layers quantise none of what they get
    if dtype is not None:
        clone.set_model_compute_dtype(dtype)
    return clone


def _compute_dtype(model: ModelPatcher) -> torch.dtype:
    cast: Any = model.get_model_object("manual_cast_dtype")
    return cast if cast is not None else model.model.get_dtype()


def _fp32_copy(weight: Tensor) -> nn.Parameter:
    return nn.Parameter(in_type(weight.detach(), torch.float32).clone())


def _own_clip(clip: CLIP) -> CLIP:
    clone = clip.clone()
    clone.patcher = plain_clone(clip.patcher)
    clone.cond_stage_model = clone.patcher.model  # another one beside a dynamic model
    return clone
