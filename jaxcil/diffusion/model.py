"""Stable Diffusion as one pytree, and its three networks as pure functions of it.

Images are [B, H, W, 3] float32 in [-1, 1], latents [B, h, w, 4] float32, whatever the dtype of the networks.
"""

import json
from typing import Any

import flax.struct
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxcil.diffusion.slices import in_slices
from jaxcil.diffusion.text_encoder import CLIPTextModel, pooled_row
from jaxcil.diffusion.tokenizer import Tokenizer
from jaxcil.diffusion.unet import UNet2DCondition
from jaxcil.diffusion.vae import AutoencoderKL
from jaxcil.errors import InputError
from jaxcil.solvers.grid import is_concrete


@flax.struct.dataclass
class StableDiffusion:
    """A text-to-image model. All but the parameters is static and compares by value.

    Attributes:
      parameters: nested dict with the trees "unet", "vae" and "text_encoder".
      unet: the network without its parameters, as are the next two.
      vae: the autoencoder.
      text_encoder: CLIP's.
      tokenizer: prompts to ids.
      scheduler: JSON text of diffusers' scheduler_config.json.
    """

    parameters: Any
    unet: UNet2DCondition = flax.struct.field(pytree_node=False)
    vae: AutoencoderKL = flax.struct.field(pytree_node=False)
    text_encoder: CLIPTextModel = flax.struct.field(pytree_node=False)
    tokenizer: Tokenizer = flax.struct.field(pytree_node=False)
    scheduler: str = flax.struct.field(pytree_node=False)

    @property
    def scheduler_config(self) -> dict[str, Any]:
        """The scheduler's configuration, for `jaxcil.solvers.scheduler_grid`."""
        return json.loads(self.scheduler)

    @property
    def prediction_type(self) -> str:
        """What the UNet predicts: "epsilon" or "v_prediction"."""
        return self.scheduler_config.get("prediction_type", "epsilon")

    def tokenize(self, prompts: list[str]) -> np.ndarray:
        """Token ids [B, L] int32 of B prompts; prompts that are too long are truncated with a warning."""
        return self.tokenizer.encode(prompts)


def encode_text(model: StableDiffusion, ids: ArrayLike, clip_skip: int = 0) -> Array:
    """Text states [B, L, D] of token ids [B, L], as the UNet takes them.

    clip_skip (static) is the number of final layers to skip, before the last norm. Stable Diffusion 2 was trained
    without CLIP's last layer: its folders do not hold it, so there is nothing to skip.

    Raises:
      InputError: ids of another shape or kind, more than the encoder has positions, or (if they are concrete) ids that
        it does not know.
    """
    _check_ids(model.text_encoder, ids)
    states, _ = _apply(model, "text_encoder", jnp.asarray(ids), clip_skip)
    return states


def pooled_text(model: StableDiffusion, ids: ArrayLike, projection: Array | None = None) -> Array:
    """One vector per text [B, D], the state at its end, which CLIP projects and compares with images.

    Args:
      model: the model; Stable Diffusion itself does not use these vectors.
      ids: token ids [B, L].
      projection: [D, P], the kernel `text_projection` of a CLIPTextModelWithProjection, which a Stable Diffusion
        folder does not hold; the result is then [B, P].
    """
    ids = jnp.asarray(ids)
    pooled = pooled_row(encode_text(model, ids), ids, model.text_encoder.eos_token_id)
    return pooled if projection is None else pooled @ projection


def unet(
    model: StableDiffusion, latents: Array, time: ArrayLike, text: Array, class_labels: Array | None = None
) -> Array:
    """The raw output of the UNet [B, h, w, C] float32.

    Args:
      model: the model.
      latents: [B, h, w, in_channels], of unit variance; for an inpainting model followed by the extra channels.
      time: scalar or [B], the network's own, 0 to 999.
      text: [B, L, D] from `encode_text`.
      class_labels: [B], see `pipeline.Conditions`.
    """
    return _apply(model, "unet", latents, time, text, class_labels).astype(jnp.float32)


def encode_image(model: StableDiffusion, images: Array) -> tuple[Array, Array]:
    """Mean and log variance [B, h, w, 4] of the latents of images [B, H, W, 3] in [-1, 1].

    They are the autoencoder's own: the UNet sees them multiplied by `model.vae.scaling_factor`. Large batches are
    encoded in slices, as in `decode_latents`.

    Raises:
      InputError: images of another shape, of whole numbers, or with sides that are no multiples of
        `model.vae.factor`.
    """
    channels = model.vae.in_channels
    if images.ndim != 4 or images.shape[-1] != channels:
        raise InputError(f"images must be [B, H, W, {channels}], got {list(images.shape)}.")
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise InputError(
            f"images must be floating point in [-1, 1], got {images.dtype}: x / 127.5 - 1 of uint8."
        )
    height, width = images.shape[1:3]
    if height % model.vae.factor or width % model.vae.factor:
        raise InputError(f"images must have sides divisible by {model.vae.factor}, got {height} x {width}.")

    def encode(images: Array) -> tuple[Array, Array]:
        return _apply(model, "vae", images, method="encode")

    return in_slices(encode, images, on=model.vae.mesh, pixels=height * width)


def decode_latents(model: StableDiffusion, latents: Array, decode_slice: int | None = None) -> Array:
    """Images [B, H, W, 3] in [-1, 1] of latents [B, h, w, 4] as the UNet sees them.

    decode_slice (static) is the number of images that a device decodes at a time; None: those with the pixels of 8
    images of 512 x 512. The number of devices that share the batch is known for a model that `place` has placed.
    """

    def decode(latents: Array) -> Array:
        images = _apply(model, "vae", latents / model.vae.scaling_factor, method="decode")
        return jnp.clip(images, -1.0, 1.0)

    pixels = latents.shape[1] * latents.shape[2] * model.vae.factor**2
    return in_slices(decode, latents, on=model.vae.mesh, pixels=pixels, most=decode_slice)


def _check_ids(encoder: CLIPTextModel, ids: ArrayLike) -> None:
    array, most = jnp.asarray(ids), encoder.max_position_embeddings
    if array.ndim != 2 or array.shape[1] > most or not jnp.issubdtype(array.dtype, jnp.integer):
        raise InputError(
            f"ids must be whole numbers [B, L] with L at most {most}, got {array.dtype} {[*array.shape]}. "
            "model.tokenize makes them from a list of prompts."
        )
    if is_concrete(ids) and np.size(ids):
        low, high = np.min(ids), np.max(ids)
        if low < 0 or high >= encoder.vocab_size:
            raise InputError(
                f"ids must lie in [0, {encoder.vocab_size}), the tokens of this text encoder, got {low} to {high}. "
                "Are they from another model's tokenizer?"
            )


def _apply(model: StableDiffusion, part: str, *inputs: Any, method: str | None = None) -> Any:
    return getattr(model, part).apply({"params": model.parameters[part]}, *inputs, method=method)
