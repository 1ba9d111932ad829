"""Sampling of Stable Diffusion: prompts to images.

    model = load("stable-diffusion-v1-5")
    plan = solvers.ddim(solvers.scheduler_grid(model.scheduler_config, 20))
    images = jax.jit(text_to_image)(model, plan, model.tokenize(["a photo of a cat"]), jax.random.key(0))

Images are [B, H, W, 3] float32 in [-1, 1], latents [B, h, w, 4] float32 as the UNet sees them, whatever the
dtype of the networks. All here is pure, and may stand inside jit, vmap and shard_map (a model that `placement` gave
kernels inside jit alone); `folder` reads and writes.
"""

import operator
from typing import Any

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


def denoiser(
    model: StableDiffusion,
    text: Array,
    guidance_scale: ArrayLike | None = None,
    negative: Array | None = None,
    guidance_rescale: ArrayLike = 0.0,
    *,
    class_labels: Array | None = None,
    extra: Array | None = None,
) -> Denoiser:
    """The x0 prediction of a model for a text, as `jaxcil.solvers` asks for it.

    The network sees x / sqrt(alpha^2 + sigma^2), so any scaling of the noise will do: x = x0 + sigma epsilon
    as well as alpha^2 + sigma^2 = 1. Times must be the network's own, 0 to 999: noise levels of one's own choice
    get theirs from `jaxcil.solvers.beta_nodes`. Guidance acts on the raw output, that for the text against that for
    `negative`, by `jaxcil.solvers.denoiser.guided`.

    Args:
      model: the model.
      text: [B, L, D] from `encode_text`.
      guidance_scale: scalar or [B], 1 is no guidance; None leaves the second half of the work away.
      negative: [B or 1, L, D], what to keep away from; None: the empty prompt.
      guidance_rescale: scalar or [B] in [0, 1], against the overexposure of large scales.
      class_labels: [B] int32, for a UNet with `num_class_embeds`, and only for one; both halves of the guidance
        have them.
      extra: [B, h, w, n], channels that the UNet takes behind the latents. An inpainting model has 5: the mask (1 where
        to paint) and the scaled latents of the masked image.

    Returns:
      denoiser(x [B, h, w, C] float32, node) -> [B, h, w, C] float32.

    Raises:
      InputError: the texts do not fit the UNet or one another; extra or class_labels are missing, not asked for, or
        do not fit.
    """
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
    clip_skip: int = 0,
    class_labels: Array | None = None,
    extra: Array | None = None,
    decode_slice: int | None = None,
) -> Array:
    """Images of prompts: `encode_text` and `draw_images`. Who draws many images of one prompt calls the two.

    Args:
      model: the model.
      plan: a solver's table on a grid of the model's own noise levels; see `check_plan`.
      ids: token ids [B, L] from `model.tokenize`.
      keys: as in `draw_images`, as are the arguments that follow and are not named here.
      latents: as above.
      noises: as above.
      size: as above.
      guidance_scale: as above.
      guidance_rescale: as above.
      negative_ids: [B or 1, L], what to keep away from; None: the empty prompt.
      clip_skip: see `encode_text`; of the prompts alone, as in diffusers, and not of `negative_ids`.
      class_labels: as above.
      extra: as above.
      decode_slice: as above.

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
        encode_text(model, ids, clip_skip),
        keys,
        negative=negative,
        latents=latents,
        noises=noises,
        size=size,
        guidance_scale=guidance_scale,
        guidance_rescale=guidance_rescale,
        class_labels=class_labels,
        extra=extra,
        decode_slice=decode_slice,
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
    class_labels: Array | None = None,
    extra: Array | None = None,
    decode_slice: int | None = None,
) -> Array:
    """Images of encoded prompts.

    Args:
      model: the model.
      plan: a solver's table on a grid of the model's own noise levels; see `check_plan`.
      text: [B, L, D] from `encode_text`.
      keys: B typed keys, or one. An image depends on its own key alone: see `jaxcil.solvers.sample`.
      negative: [B or 1, L, D] from `encode_text`, what to keep away from; None: the empty prompt, encoded here.
      latents: [B, h, w, 4] at the first node of the plan, in place of those from the keys; without `size`.
      noises: [N, B, h, w, 4] standard normal, in place of those from the keys.
      size: of the images in pixels, one number or (height, width); None: that of the model's training.
      guidance_scale: scalar or [B]; None: no guidance, at half the work.
      guidance_rescale: see `denoiser`.
      class_labels: see `denoiser`.
      extra: see `denoiser`.
      decode_slice: see `decode_latents`.

    Returns:
      Images [B, H, W, 3] float32 in [-1, 1].

    Raises:
      InputError: what the model needs is missing, or does not fit.
    """
    check_plan(model, plan)
    predict = denoiser(
        model, text, guidance_scale, negative, guidance_rescale, class_labels=class_labels, extra=extra
    )
    shape = _latent_shape(model, text.shape[0], size, latents)
    if extra is not None and extra.shape[:-1] != shape[:-1]:
        raise InputError(
            f"extra must be {[*shape[:-1]]} and its channels, like the latents, got {[*extra.shape]}."
        )
    if latents is None:
        if keys is None:
            raise InputError("drawing needs keys, or latents to start from.")
        latents = prior(plan, keys, shape)
    keys = keys if noises is None else None  # here they were for the first latents alone
    final: Any = sample(plan, predict, latents, key=keys, noises=noises)
    return decode_latents(model, final, decode_slice)


def check_plan(model: StableDiffusion, plan: Plan) -> None:
    """Refuses a plan whose times do not go with its noise levels in this model; looks at concrete values only.

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
            f"negative texts must be one for all or one a text, {[*text.shape]}, got {[*negative.shape]}."
        )


def _check_conditions(
    model: StableDiffusion, batch: int, class_labels: Array | None, extra: Array | None
) -> None:
    """What a UNet takes beside latents and text, before it is compiled."""
    wanted = model.unet.in_channels - model.vae.latent_channels
    if (wanted,) != ((0,) if extra is None else extra.shape[-1:]):
        raise InputError(
            f"this UNet takes {model.unet.in_channels} channels: {model.vae.latent_channels} of latents and {wanted} "
            f"that must come as extra [B, h, w, {wanted}], got {'none' if extra is None else extra.shape}. "
            "(An inpainting model takes 5: a mask, and the latents of the masked image.)"
        )
    count = model.unet.num_class_embeds
    check_labels(count, class_labels)
    if class_labels is not None and class_labels.shape != (batch,):
        raise InputError(f"class_labels must be one a text, [{batch}], got {class_labels.shape}.")
    if class_labels is not None and is_concrete(class_labels):
        low, high = np.min(class_labels), np.max(class_labels)
        if low < 0 or high >= count:
            raise InputError(f"class_labels must lie in [0, {count}), got {low} to {high}.")


def _joined(x: Array, extra: Array | None) -> Array:
    return x if extra is None else jnp.concatenate([x, extra], axis=-1)


def _pair(first: Array, second: Array) -> Array:
    """[2 B, ...] from two [B, ...], the two of a sample side by side: a sharded batch keeps them together."""
    return jnp.stack([first, second], axis=1).reshape(-1, *first.shape[1:])


def _latent_shape(
    model: StableDiffusion, batch: int, size: int | tuple[int, int] | None, latents: Array | None
) -> tuple[int, ...]:
    """[B, h, w, C] of the latents that are given, or else of those of a size."""
    channels = model.vae.latent_channels
    if latents is not None:
        if size is not None:
            raise InputError(f"latents have a size of their own: leave size={size} away, or latents.")
        if latents.ndim != 4 or (latents.shape[0], latents.shape[-1]) != (batch, channels):
            raise InputError(
                f"latents must be one a text, [{batch}, h, w, {channels}], got {[*latents.shape]}."
            )
        return latents.shape
    if size is None:
        side = model.unet.sample_size
        if side is None:
            raise InputError("this model does not say for which size it was trained: pass size=, in pixels.")
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
