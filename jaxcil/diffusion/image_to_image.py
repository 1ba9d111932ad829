"""Images changed by a prompt: noised part of the way, and sampled back (SDEdit, Meng et al., arXiv:2108.01073).

plan = solvers.dpmpp_2m(solvers.scheduler_grid(model.scheduler_config, 20, "dpm"))
images = image_to_image(model, plan, images, model.tokenize(["a fox"] * len(images)), jax.random.key(0), 0.6)
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.typing import ArrayLike

from jaxcil.diffusion.model import StableDiffusion, encode_image, encode_text
from jaxcil.diffusion.pipeline import NONE, Conditions, draw_images
from jaxcil.errors import InputError
from jaxcil.solvers.plan import Plan
from jaxcil.solvers.sample import prior


def image_to_image(
    model: StableDiffusion,
    plan: Plan,
    images: Array,
    ids: ArrayLike,
    keys: Array | None = None,
    strength: float = 0.8,
    *,
    start_noise: Array | None = None,
    noises: Array | None = None,
    guidance_scale: ArrayLike | None = 2.0,
    guidance_rescale: ArrayLike = 0.0,
    negative_ids: ArrayLike | None = None,
    conditions: Conditions = NONE,
) -> Array:
    """Images changed towards prompts.

        x = alpha E(image) + sigma z    at the first node of `shortened(plan, strength)`,

    which is then sampled. E is the mean of the autoencoder's posterior. (diffusers draws from that posterior, whose
    standard deviation in Stable Diffusion is far below the noise added here.)

    Args:
      model: the model.
      plan: a solver's table on a grid of the model's own noise levels; see `check_plan`.
      images: [B, H, W, 3] in [-1, 1], sides multiples of `model.vae.factor`.
      ids: token ids [B, L] from `model.tokenize`.
      keys: B typed keys, or one; see `jaxcil.solvers.sample`.
      strength: in (0, 1], the fraction of the plan's rows that is run; a Python number, static under jit. Low
        values stay close to the images.
      start_noise: z [B, h, w, 4] standard normal, in place of that from the keys.
      noises: [rows run, B, h, w, 4] standard normal, in place of those from the keys.
      guidance_scale: this and the arguments that follow are those of `text_to_image`.

    Returns:
      Images [B, H, W, 3] float32 in [-1, 1].

    Raises:
      InputError: the strength leaves no row or is not static, there are neither keys nor noise, or an argument does
        not fit the images.
    """
    plan = shortened(plan, strength)
    text = encode_text(model, ids, conditions.clip_skip)
    if images.shape[:1] != text.shape[:1]:
        raise InputError(
            f"there must be one prompt per image: got images {[*images.shape]} and {text.shape[0]} prompts."
        )
    mean, _ = encode_image(model, images)
    if start_noise is None:
        if keys is None:
            raise InputError("image_to_image needs keys, or start_noise to start from.")
        start_noise = prior(plan, keys, mean.shape) / jnp.hypot(plan.alpha[0], plan.sigma[0])
    elif start_noise.shape != mean.shape:
        raise InputError(
            f"start_noise must be {[*mean.shape]}, like the latents, got {[*start_noise.shape]}."
        )
    latents = plan.alpha[0] * model.vae.scaling_factor * mean + plan.sigma[0] * start_noise
    negative = None
    if guidance_scale is not None and negative_ids is not None:
        negative = encode_text(model, negative_ids)
    return draw_images(
        model,
        plan,
        text,
        keys,
        negative=negative,
        latents=latents,
        noises=noises,
        guidance_scale=guidance_scale,
        guidance_rescale=guidance_rescale,
        conditions=conditions,
    )


def shortened(plan: Plan, strength: float) -> Plan:
    """The last int(N strength) of a plan's N rows as a plan of their own, as in diffusers.

    A row with a history reads predictions that were made before the cut. They are replaced by the first one made
    after it, so that the first row is of order 1, like the first row of every solver, and consistent. For a solver
    with one earlier prediction (DPM++ 2M, ER-SDE of order 2) the result is the solver's plan on the last nodes of
    the grid. For longer histories and for Heun, whose rows come in pairs, make the plan on that shorter grid instead
    and run all of it with strength 1.

    Args:
      plan: N rows.
      strength: in (0, 1], a Python number.

    Raises:
      InputError: no row would be left, strength > 1, or a traced strength.
    """
    if isinstance(strength, Tracer):
        raise InputError(
            "strength decides how many rows are run, so under jit it must be a Python number: list it "
            "in jax.jit's static_argnames."
        )
    if not 0 < strength <= 1 or int(plan.rows * strength) < 1:
        raise InputError(
            f"strength must lie in (0, 1] and leave one of the plan's {plan.rows} rows, got {strength}."
        )
    rows = int(plan.rows * strength)
    plan = jax.tree.map(lambda leaf: jnp.asarray(leaf)[plan.rows - rows :], plan)
    history = plan.history
    back = np.arange(history.shape[1])[None]  # column k of row i reads the prediction of row i - k
    oldest = np.minimum(np.arange(rows), history.shape[1] - 1)[:, None]
    known = back <= oldest
    before = jnp.sum(jnp.where(known, 0, history), axis=1, keepdims=True)
    history = jnp.where(known, history, 0) + jnp.where(back == oldest, before, 0)
    return dataclasses.replace(plan, history=history)
