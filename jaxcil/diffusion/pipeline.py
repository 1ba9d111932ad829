"""Stable Diffusion as one pytree, and pure functions of it.

    model = load("stable-diffusion-v1-5")
    plan = solvers.ddim(solvers.scheduler_grid(model.scheduler_config, 20))
    images = jax.jit(text_to_image)(model, plan, model.tokenize(["a photo of a cat"]), jax.random.key(0))

Images are [B, H, W, 3] float32 in [-1, 1], latents [B, h, w, 4] float32 as the UNet sees them, whatever the
dtype of the networks. All here is pure, and may stand inside jit, vmap and shard_map; `folder` reads and writes.
"""

import json
from typing import Any

import flax.struct
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxcil.diffusion.text_encoder import CLIPTextModel
from jaxcil.diffusion.tokenizer import Tokenizer
from jaxcil.diffusion.unet import UNet2DCondition
from jaxcil.diffusion.vae import AutoencoderKL
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
        """Token ids [B, L] int32 of B prompts; too long ones are cut with a warning."""
        return self.tokenizer.encode(prompts)


def encode_text(model: StableDiffusion, ids: ArrayLike) -> Array:
    """Text states [B, L, D] of token ids [B, L], as the UNet takes them."""
    states, _ = _apply(model, "text_encoder", jnp.asarray(ids))
    return states


def unet(model: StableDiffusion, latents: Array, time: ArrayLike, text: Array) -> Array:
    """The raw output of the UNet [B, h, w, C] float32.

    Args:
      model: the model.
      latents: [B, h, w, C], of unit variance.
      time: scalar or [B], the network's own, 0 to 999.
      text: [B, L, D] from `encode_text`.
    """
    return _apply(model, "unet", latents, time, text).astype(jnp.float32)


def encode_image(model: StableDiffusion, images: Array) -> tuple[Array, Array]:
    """Mean and log variance [B, h, w, 4] of the latents of images [B, H, W, 3] in [-1, 1].

    They are the autoencoder's own: the UNet sees them multiplied by `model.vae.scaling_factor`.
    """
    return _apply(model, "vae", images, method="encode")


def decode_latents(model: StableDiffusion, latents: Array) -> Array:
    """Images [B, H, W, 3] in [-1, 1] of latents [B, h, w, 4] as the UNet sees them."""
    images = _apply(model, "vae", latents / model.vae.scaling_factor, method="decode")
    return jnp.clip(images, -1.0, 1.0)


def denoiser(
    model: StableDiffusion,
    text: Array,
    guidance_scale: ArrayLike | None = None,
    negative: Array | None = None,
    guidance_rescale: ArrayLike = 0.0,
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

    Returns:
      denoiser(x [B, h, w, C] float32, node) -> [B, h, w, C] float32.
    """
    if guidance_scale is None:

        def raw(x: Array, node: Node) -> Array:
            return unet(model, x, node.time, text)
    else:
        if negative is None:
            negative = encode_text(model, model.tokenize([""]))
        both = _pair(jnp.broadcast_to(negative, text.shape), text)

        def raw(x: Array, node: Node) -> Array:
            output = unet(model, _pair(x, x), node.time, both)
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
) -> Array:
    """Images of prompts.

    Args:
      model: the model.
      plan: a solver's table on a grid of the model's own noise levels; see `check_plan`.
      ids: token ids [B, L] from `model.tokenize`.
      keys: B typed keys, or one. An image depends on its own key alone: see `jaxcil.solvers.sample`.
      latents: [B, h, w, 4] at the first node of the plan, in place of those from the keys.
      noises: [N, B, h, w, 4] standard normal, in place of those from the keys.
      size: of the images in pixels, one number or (height, width); None: that of the model's training.
      guidance_scale: scalar or [B]; None: no guidance, at half the work.
      guidance_rescale: see `denoiser`.
      negative_ids: [B or 1, L], what to keep away from; None: the empty prompt.

    Returns:
      Images [B, H, W, 3] float32 in [-1, 1].
    """
    check_plan(model, plan)
    if latents is None:
        if keys is None:
            raise InputError("text_to_image needs keys, or latents to start from.")
        latents = prior(plan, keys, _latent_shape(model, jnp.shape(ids)[0], size))
    text = encode_text(model, ids)
    negative = None
    if guidance_scale is not None and negative_ids is not None:
        negative = encode_text(model, negative_ids)
    predict = denoiser(model, text, guidance_scale, negative, guidance_rescale)
    keys = keys if noises is None else None  # here they were for the first latents alone
    final: Any = sample(plan, predict, latents, key=keys, noises=noises)
    return decode_latents(model, final)


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


def _apply(model: StableDiffusion, part: str, *inputs: Any, method: str | None = None) -> Any:
    return getattr(model, part).apply({"params": model.parameters[part]}, *inputs, method=method)


def _pair(first: Array, second: Array) -> Array:
    """[2 B, ...] from two [B, ...], the two of a sample side by side: a sharded batch keeps them together."""
    return jnp.stack([first, second], axis=1).reshape(-1, *first.shape[1:])


def _latent_shape(
    model: StableDiffusion, batch: int, size: int | tuple[int, int] | None
) -> tuple[int, int, int, int]:
    factor = model.vae.factor
    if size is None:
        if model.unet.sample_size is None:
            raise InputError("this model does not say for which size it was trained: pass size=, in pixels.")
        side = model.unet.sample_size
        height, width = (side, side) if isinstance(side, int) else side
    else:
        sides = (size, size) if isinstance(size, int) else size
        if any(side <= 0 or side % factor for side in sides):
            raise InputError(f"size must be a multiple of {factor} pixels, got {size}.")
        height, width = (side // factor for side in sides)
    return batch, height, width, model.unet.in_channels
