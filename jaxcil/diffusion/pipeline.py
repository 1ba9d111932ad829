"""Sampling of Stable Diffusion: prompts to images.

    model = load("stable-diffusion-v1-5")
    plan = solvers.ddim(solvers.scheduler_grid(model.scheduler_config, 20))
    images = jax.jit(text_to_image)(model, plan, model.tokenize(["a photo of a cat"]), jax.random.key(0))

Images are [B, H, W, 3] float32 in [-1, 1], latents [B, h, w, 4] float32 as the UNet sees them, whatever the
dtype of the networks. All functions are pure and work inside jit, vmap and shard_map (a model to which `placement`
gave kernels inside jit only); `folder` reads and writes.
"""

import operator
from typing import Any

import flax.struct
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxcil.diffusion.config import per_level
from jaxcil.diffusion.model import StableDiffusion, decode_latents, encode_text, unet
from jaxcil.diffusion.unet import check_labels
from jaxcil.errors import InputError
from jaxcil.solvers.beta_grid import scheduler_betas
from jaxcil.solvers.denoiser import Denoiser, from_epsilon, from_v, guided
from jaxcil.solvers.grid import is_concrete
from jaxcil.solvers.plan import Node, Plan
from jaxcil.solvers.sample import prior, sample

# Of arctan(sigma / alpha), between a plan and a model: schedulers round times, which moves it by 0.001.
ANGLE = 0.02
PREDICTIONS = {"epsilon": from_epsilon, "v_prediction": from_v}


@flax.struct.dataclass
class Conditions:
    """What an image is drawn from in addition to text, latents and guidance, and how it is decoded.

    Attributes:
      class_labels: [B] int32, for a UNet with `num_class_embeds` and only for one; both halves of the guidance see
        them.
      extra: [B, h, w, n], channels that the UNet takes behind the latents. An inpainting model has 5: the mask (1 where
        to paint) and the scaled latents of the masked image.
      clip_skip: static, see `encode_text`; applies to the prompts but not to negative prompts, as in diffusers. Not
        used where the text is already encoded (`denoiser`, `draw_images`).
      decode_slice: static, see `decode_latents`.
    """

    class_labels: Array | None = None
    extra: Array | None = None
    clip_skip: int = flax.struct.field(pytree_node=False, default=0)
    decode_slice: int | None = flax.struct.field(pytree_node=False, default=None)


NONE = Conditions()


def denoiser(
    model: StableDiffusion,
    text: Array,
    guidance_scale: ArrayLike | None = None,
    negative: Array | None = None,
    guidance_rescale: ArrayLike = 0.0,
    conditions: Conditions = NONE,
) -> Denoiser:
    """The x0 prediction of a model for a text, in the form that `jaxcil.solvers` takes.

    The network sees x / sqrt(alpha^2 + sigma^2), so any scaling of the noise works: x = x0 + sigma epsilon
    as well as alpha^2 + sigma^2 = 1. Times must be the network's own, 0 to 999; for other noise levels,
    `jaxcil.solvers.beta_nodes` gives the times. Guidance compares the raw output for the text with that for
    `negative`, by `jaxcil.solvers.denoiser.guided`.

    Args:
      model: the model.
      text: [B, L, D] from `encode_text`.
      guidance_scale: scalar or [B], 1 is no guidance; None skips the second half of the work.
      negative: [B or 1, L, D], what to avoid; None: the empty prompt.
      guidance_rescale: scalar or [B] in [0, 1], against the overexposure of large scales.
      conditions: class labels and extra channels, for a UNet that takes them.

    Returns:
      denoiser(x [B, h, w, C] float32, node) -> [B, h, w, C] float32.

    Raises:
      InputError: the texts do not fit the UNet or one another; extra channels or class labels are missing, not
        expected, or do not fit.
    """
    class_labels, extra = conditions.class_labels, conditions.extra
    _check_texts(model, text, negative)
    _check_conditions(model, text.shape[0], class_labels, extra)
    if guidance_scale is None:

        def raw(x: Array, node: Node) -> Array:
            return unet(model, _joined(x, extra), node.time, text, class_labels)
    else:
        if negative is None:
            negative = encode_text(model, model.tokenize([""]))
        both = _pair(jnp.broadcast_to(negative, text.shape), text)
        labels = None if class_labels is None else _pair(class_labels, class_labels)

        def raw(x: Array, node: Node) -> Array:
            joined = _joined(x, extra)
            output = unet(model, _pair(joined, joined), node.time, both, labels)
            output = output.reshape(x.shape[0], 2, *output.shape[1:])
            return guided(output[:, 0], output[:, 1], guidance_scale, guidance_rescale)

    predict = PREDICTIONS[model.prediction_type](raw)

    def denoise(x: Array, node: Node) -> Array:
        scale = jnp.hypot(node.alpha, node.sigma)
        return predict(x / scale, Node(node.time, node.alpha / scale, node.sigma / scale))

    return denoise


def text_to_image(
    model: StableDiffusion,
    plan: Plan,
    ids: ArrayLike,
    keys: Array | None = None,
    *,
    latents: Array | None = None,
    noises: Array | None = None,
    size: int | tuple[int, int] | None = None,
    guidance_scale: ArrayLike | None = 2.0,
    guidance_rescale: ArrayLike = 0.0,
    negative_ids: ArrayLike | None = None,
    conditions: Conditions = NONE,
) -> Array:
    """Images of prompts: `encode_text` and `draw_images`. To draw many images of one prompt, call these two.

    Args:
      model: the model.
      plan: a solver's table on a grid of the model's own noise levels; see `check_plan`.
      ids: token ids [B, L] from `model.tokenize`.
      keys: this and the arguments not listed here are those of `draw_images`.
      negative_ids: [B or 1, L], what to avoid; None: the empty prompt.

    Returns:
      Images [B, H, W, 3] float32 in [-1, 1].

    Raises:
      InputError: as `encode_text` and `draw_images`.
    """
    negative = None
    if guidance_scale is not None and negative_ids is not None:
        negative = encode_text(model, negative_ids)
    return draw_images(
        model,
        plan,
        encode_text(model, ids, conditions.clip_skip),
        keys,
        negative=negative,
        latents=latents,
        noises=noises,
        size=size,
        guidance_scale=guidance_scale,
        guidance_rescale=guidance_rescale,
        conditions=conditions,
    )


def draw_images(
    model: StableDiffusion,
    plan: Plan,
    text: Array,
    keys: Array | None = None,
    *,
    negative: Array | None = None,
    latents: Array | None = None,
    noises: Array | None = None,
    size: int | tuple[int, int] | None = None,
    guidance_scale: ArrayLike | None = 2.0,
    guidance_rescale: ArrayLike = 0.0,
    conditions: Conditions = NONE,
) -> Array:
    """Images of encoded prompts.

    Args:
      model: the model.
      plan: a solver's table on a grid of the model's own noise levels; see `check_plan`.
      text: [B, L, D] from `encode_text`.
      keys: B typed keys, or one. An image depends on its own key alone: see `jaxcil.solvers.sample`.
      negative: [B or 1, L, D] from `encode_text`, what to avoid; None: the empty prompt, encoded here.
      latents: [B, h, w, 4] at the first node of the plan, in place of those from the keys; without `size`.
      noises: [N, B, h, w, 4] standard normal, in place of those from the keys.
      size: of the images in pixels, one number or (height, width); None: that of the model's training.
      guidance_scale: scalar or [B]; None: no guidance, at half the work.
      guidance_rescale: see `denoiser`.
      conditions: class labels, extra channels and the slices of decoding.

    Returns:
      Images [B, H, W, 3] float32 in [-1, 1].

    Raises:
      InputError: an argument that the model needs is missing or does not fit.
    """
    check_plan(model, plan)
    predict = denoiser(model, text, guidance_scale, negative, guidance_rescale, conditions)
    shape, extra = _latent_shape(model, text.shape[0], size, latents), conditions.extra
    if extra is not None and extra.shape[:-1] != shape[:-1]:
        raise InputError(
            f"extra must be {[*shape[:-1]]} and its channels, like the latents, got {[*extra.shape]}."
        )
    if latents is None:
        if keys is None:
            raise InputError("drawing needs keys, or latents to start from.")
        latents = prior(plan, keys, shape)
    keys = keys if noises is None else None  # with noises given, the keys only made the first latents
    final: Any = sample(plan, predict, latents, key=keys, noises=noises)
    return decode_latents(model, final, conditions.decode_slice)


def check_plan(model: StableDiffusion, plan: Plan) -> None:
    """Refuses a plan whose times do not match its noise levels in this model; checks concrete values only.

    Raises:
      InputError: names the first node that the model was not trained at.
    """
    if not is_concrete(plan):
        return
    abar = np.cumprod(1 - scheduler_betas(model.scheduler_config))
    table = np.arctan2(np.sqrt(1 - abar), np.sqrt(abar))
    time, alpha, sigma = (np.asarray(leaf, float)[:-1] for leaf in (plan.time, plan.alpha, plan.sigma))
    expected = np.interp(time, np.arange(len(table)), table)
    beyond = (time < 0) | (time > len(table) - 1)
    wrong = np.flatnonzero(beyond | (np.abs(np.arctan2(sigma, alpha) - expected) > ANGLE))
    if wrong.size:
        i = wrong[0]
        raise InputError(
            f"the plan calls the network at time {time[i]:g} with sigma {sigma[i]:.4g} and alpha {alpha[i]:.4g} (row "
            f"{i}), but this model has times 0 to {len(table) - 1}, and sigma / alpha = {np.tan(expected[i]):.4g} at "
            "the nearest. Make the grid with scheduler_grid(model.scheduler_config, steps), or with beta_nodes for "
            "noise levels of your own."
        )


def _check_texts(model: StableDiffusion, text: Array, negative: Array | None) -> None:
    """Shapes, which are known under tracing too."""
    width = per_level(
        "cross_attention_dim", model.unet.cross_attention_dim, len(model.unet.block_out_channels)
    )[0]
    if text.ndim != 3 or text.shape[-1] != width:
        raise InputError(
            f"text must be [B, L, {width}] for this UNet, from encode_text, got {[*text.shape]}."
        )
    if negative is not None and negative.shape not in (text.shape, (1, *text.shape[1:])):
        raise InputError(
            f"negative texts must be one for all or one per text, {[*text.shape]}, got {[*negative.shape]}."
        )


def _check_conditions(
    model: StableDiffusion, batch: int, class_labels: Array | None, extra: Array | None
) -> None:
    """What a UNet takes in addition to latents and text, before it is compiled."""
    channels = model.unet.in_channels - model.vae.latent_channels
    if (channels,) != ((0,) if extra is None else extra.shape[-1:]):
        raise InputError(
            f"this UNet takes {model.unet.in_channels} channels: {model.vae.latent_channels} of latents and {channels} "
            f"that must come as extra [B, h, w, {channels}], got {'none' if extra is None else extra.shape}. "
            "(An inpainting model takes 5: a mask, and the latents of the masked image.)"
        )
    count = model.unet.num_class_embeds
    check_labels(count, class_labels)
    if class_labels is not None and class_labels.shape != (batch,):
        raise InputError(f"class_labels must be one per text, [{batch}], got {class_labels.shape}.")
    if class_labels is not None and is_concrete(class_labels):
        low, high = np.min(class_labels), np.max(class_labels)
        if low < 0 or high >= count:
            raise InputError(f"class_labels must lie in [0, {count}), got {low} to {high}.")


def _joined(x: Array, extra: Array | None) -> Array:
    return x if extra is None else jnp.concatenate([x, extra], axis=-1)


def _pair(first: Array, second: Array) -> Array:
    """[2 B, ...] from two [B, ...], the two of a sample adjacent, so that a sharded batch keeps them together."""
    return jnp.stack([first, second], axis=1).reshape(-1, *first.shape[1:])


def _latent_shape(
    model: StableDiffusion, batch: int, size: int | tuple[int, int] | None, latents: Array | None
) -> tuple[int, ...]:
    """[B, h, w, C] of the latents that are given, or else of those of a size."""
    channels = model.vae.latent_channels
    if latents is not None:
        if size is not None:
            raise InputError(f"latents have a size of their own: omit size={size}, or latents.")
        if latents.ndim != 4 or (latents.shape[0], latents.shape[-1]) != (batch, channels):
            raise InputError(
                f"latents must be one per text, [{batch}, h, w, {channels}], got {[*latents.shape]}."
            )
        return latents.shape
    if size is None:
        side = model.unet.sample_size
        if side is None:
            raise InputError("the model's config.json has no sample_size: pass size=, in pixels.")
        height, width = side if isinstance(side, tuple) else (side, side)
    else:
        height, width = (side // model.vae.factor for side in _sides(size, model.vae.factor))
    return batch, height, width, channels


def _sides(size: int | tuple[int, int], factor: int) -> list[int]:
    try:
        sides = [operator.index(side) for side in (size if isinstance(size, tuple | list) else (size, size))]
    except TypeError:
        sides = []
    if len(sides) != 2 or any(side <= 0 or side % factor for side in sides):
        raise InputError(
            f"size must be a multiple of {factor} pixels, one number or (height, width), got {size!r}."
        )
    return sides
