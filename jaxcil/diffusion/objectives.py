"""Trains a small Stable Diffusion from labelled images: first the autoencoder, then text encoder and UNet.

The autoencoder minimises reconstruction error and a little of the Kullback-Leibler divergence of its posterior
from N(0, I). Then, on latents z scaled to unit variance, the text encoder c and the UNet e minimise

    E | e(sqrt(abar_t) z + sqrt(1 - abar_t) eps, t, c(prompt)) - eps |^2,   eps ~ N(0, I), t uniform    (1)

(Ho et al., arXiv:2006.11239, equation 14; Rombach et al., arXiv:2112.10752, equation 3) with Stable Diffusion's
betas. Some captions are empty, so that classifier-free guidance works (Ho and Salimans, arXiv:2207.12598). What
is kept are moving averages of the parameters. Made for images of up to about 64 pixels; training at Stable
Diffusion's own size is not what this file is for.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxcil import keys
from jaxcil.data.augmentation import augmentation
from jaxcil.diffusion.text_encoder import CLIPTextModel
from jaxcil.diffusion.unet import UNet2DCondition
from jaxcil.diffusion.vae import AutoencoderKL
from jaxcil.training.optimizer import AdamW, moving_average

EMA_DECAY = 0.999


class LabelledImages(NamedTuple):
    """The training images."""

    images: Array  # uint8 [N, H, W, 3]
    labels: Array  # int32 [N]


class TrainState(NamedTuple):
    """The state of either training."""

    parameters: Any
    average: Any
    optimizer: Any
    step: Array  # [] int32


@flax.struct.dataclass
class AutoencoderTraining:
    """The first training; `begin` and `step` are what `training.loop` calls.

    Attributes:
      optimizer: its hyperparameters are leaves.
      kl_weight: weight of the divergence, a mean over latent entries, added to the mean squared error.
      module: the autoencoder.
      steps: total optimiser steps, for the decay of the learning rate.
      shift: random shifts of the images, pixels.
    """

    optimizer: AdamW
    kl_weight: Array | float
    module: AutoencoderKL = flax.struct.field(pytree_node=False)
    steps: int = flax.struct.field(pytree_node=False)
    shift: int = flax.struct.field(pytree_node=False, default=0)

    def begin(self, key: Array) -> TrainState:
        """Random weights."""
        return _begin(
            self.module.initial(keys.purpose_key(key, "initial weights")), self.optimizer, self.steps
        )

    def step(
        self, state: TrainState, batch: LabelledImages, key: Array
    ) -> tuple[TrainState, dict[str, Array]]:
        """One step on uint8 images [B, H, W, 3]."""
        shift_key, posterior_key = jax.random.split(key)
        images = augmentation.random_shift(shift_key, augmentation.to_float(batch.images), self.shift)

        def loss(parameters: Any) -> tuple[Array, dict[str, Array]]:
            mean, log_variance = _encode(self.module, parameters, images)
            latents = _posterior_sample(posterior_key, mean, log_variance)
            decoded: Any = self.module.apply({"params": parameters}, latents, method="decode")
            error = jnp.mean((decoded - images) ** 2)
            divergence = 0.5 * jnp.mean(mean**2 + jnp.exp(log_variance) - 1 - log_variance)
            return error + self.kl_weight * divergence, {"squared_error": error, "divergence": divergence}

        return _update(state, loss, self.optimizer, self.steps)


@flax.struct.dataclass
class DenoiserTraining:
    """The second training: text encoder and UNet together, by equation (1), on a frozen autoencoder.

    Attributes:
      optimizer: its hyperparameters are leaves.
      autoencoder: parameters of the frozen autoencoder.
      scaling_factor: what latents are multiplied by, 1 / their standard deviation.
      prompt_ids: int32 [classes, templates, L]; an image gets any prompt of its class.
      empty_ids: int32 [L], the empty prompt.
      caption_dropout: fraction of images trained with the empty prompt.
      alphas_cumprod: [T] float32, of the noise schedule.
      vae: the autoencoder's module.
      text_encoder: its module.
      unet: its module.
      steps: total optimiser steps.
      shift: random shifts of the images, pixels.
    """

    optimizer: AdamW
    autoencoder: Any
    scaling_factor: Array | float
    prompt_ids: Array
    empty_ids: Array
    caption_dropout: Array | float
    alphas_cumprod: Array
    vae: AutoencoderKL = flax.struct.field(pytree_node=False)
    text_encoder: CLIPTextModel = flax.struct.field(pytree_node=False)
    unet: UNet2DCondition = flax.struct.field(pytree_node=False)
    steps: int = flax.struct.field(pytree_node=False)
    shift: int = flax.struct.field(pytree_node=False, default=0)

    def begin(self, key: Array) -> TrainState:
        """Random weights of both networks."""
        parameters = {
            "text_encoder": self.text_encoder.initial(keys.purpose_key(key, "text encoder")),
            "unet": self.unet.initial(keys.purpose_key(key, "unet")),
        }
        return _begin(parameters, self.optimizer, self.steps)

    def step(
        self, state: TrainState, batch: LabelledImages, key: Array
    ) -> tuple[TrainState, dict[str, Array]]:
        """One step on uint8 images [B, H, W, 3]."""
        shift_key, posterior_key, noise_key, time_key, template_key, drop_key = jax.random.split(key, 6)
        images = augmentation.random_shift(shift_key, augmentation.to_float(batch.images), self.shift)
        latents = _posterior_sample(posterior_key, *_encode(self.vae, self.autoencoder, images))
        latents = latents * self.scaling_factor
        noise = jax.random.normal(noise_key, latents.shape)
        times = jax.random.randint(time_key, (len(images),), 0, len(self.alphas_cumprod))
        signal = self.alphas_cumprod[times][:, None, None, None]
        noisy = jnp.sqrt(signal) * latents + jnp.sqrt(1 - signal) * noise
        prompts = self._prompt_numbers(batch.labels, template_key, drop_key)
        # every prompt is encoded once, not once per image
        ids = jnp.concatenate([self.prompt_ids.reshape(-1, self.prompt_ids.shape[-1]), self.empty_ids[None]])

        def loss(parameters: Any) -> tuple[Array, dict[str, Array]]:
            text, _ = self.text_encoder.apply({"params": parameters["text_encoder"]}, ids)
            predicted: Any = self.unet.apply({"params": parameters["unet"]}, noisy, times, text[prompts])
            error = jnp.mean((predicted - noise) ** 2)
            return error, {"squared_error": error}

        return _update(state, loss, self.optimizer, self.steps)

    def _prompt_numbers(self, labels: Array, template_key: Array, drop_key: Array) -> Array:
        classes, templates = self.prompt_ids.shape[:2]
        chosen = labels * templates + jax.random.randint(template_key, labels.shape, 0, templates)
        dropped = jax.random.bernoulli(drop_key, self.caption_dropout, labels.shape)
        return jnp.where(dropped, classes * templates, chosen)


def latent_scale(module: AutoencoderKL, parameters: Any, images: Sequence[np.ndarray] | np.ndarray) -> float:
    """1 / standard deviation of the latents of uint8 images [N, H, W, 3]: the scaling factor of the pipeline."""
    mean, log_variance = jax.jit(lambda p, x: _encode(module, p, augmentation.to_float(x)))(
        parameters, jnp.asarray(images)
    )
    # the variance of a posterior sample: that of the means and the mean of the posterior's
    return float(1 / jnp.sqrt(jnp.var(mean) + jnp.mean(jnp.exp(log_variance))))


def _encode(module: AutoencoderKL, parameters: Any, images: Array) -> tuple[Array, Array]:
    return module.apply({"params": parameters}, images, method="encode")  # type: ignore[return-value]


def _posterior_sample(key: Array, mean: Array, log_variance: Array) -> Array:
    return mean + jnp.exp(log_variance / 2) * jax.random.normal(key, mean.shape)


def _begin(parameters: Any, optimizer: AdamW, steps: int) -> TrainState:
    # a copy: the loop donates the state, and a buffer cannot be donated twice
    average = jax.tree.map(jnp.copy, parameters)
    return TrainState(parameters, average, optimizer.build(steps).init(parameters), jnp.int32(0))


def _update(
    state: TrainState, loss: Any, optimizer: AdamW, steps: int
) -> tuple[TrainState, dict[str, Array]]:
    gradient, metrics = jax.grad(loss, has_aux=True)(state.parameters)
    updates, optimizer_state = optimizer.build(steps).update(gradient, state.optimizer, state.parameters)
    parameters = optax.apply_updates(state.parameters, updates)
    average = moving_average(state.average, parameters, state.step, EMA_DECAY)
    return TrainState(parameters, average, optimizer_state, state.step + 1), metrics
