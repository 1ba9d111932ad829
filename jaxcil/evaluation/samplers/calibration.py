"""Fits the noise scale of ER-SDE to a Stable Diffusion model at few calls, and judges the fit on other noise.

The objective is the energy distance between latents of the plan's samples and a reference: latents of the same
model, prompts and guidance, drawn with many calls of the default plan. Both sides have every prompt equally often.
With guidance the samples of many calls still depend a little on the noise scale; the reference has the paper's default.

A fit sees the noise of its own seed. The figures that count are those of other seeds, each with a reference of its
own, so that their standard error covers all that is drawn.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial

from jaxcil import diffusion, keys
from jaxcil.errors import InputError
from jaxcil.evaluation.samplers.distances import balanced_energy_distance
from jaxcil.evaluation.samplers.settings import FAMILIES, CalibrationSettings
from jaxcil.solvers import Grid, Plan, er_sde, prior, sample
from jaxcil.solvers.calibrate import calibrate
from jaxcil.synthesis.dataset import prompts
from jaxcil.synthesis.drawing.plans import er_sde_plan, model_grid

CERTAIN = 2  # standard errors from which a difference is reported as one
# (stage, done, total, note)
Notify = Callable[[str, int, int, str], None]


class Fitted(NamedTuple):
    """A plan, and how good it is."""

    plan: Plan
    parameters: dict[str, float]
    losses: list[float]  # one per step
    figures: dict[str, Any]


def fitted_plan(settings: CalibrationSettings, grid: Grid, parameters: dict[str, Any]) -> Plan:
    """The plan on a grid, with a value for every parameter of the family."""
    noise_scale = FAMILIES[settings.family][1](**parameters)
    return er_sde(grid, noise_scale, settings.order, derivative=settings.derivative, start=settings.start)  # type: ignore[arg-type]


def calibrate_sampler(
    model: diffusion.StableDiffusion, settings: CalibrationSettings, notify: Notify
) -> Fitted:
    """Fits a noise scale's parameters, and measures the objective before and after.

    Args:
      model: the text-to-image model.
      settings: what is fitted, and how it is judged. "Before" is the default plan: phi 7 at the same order and calls,
        as published.
      notify: progress.

    Returns:
      The fitted plan; its figures are energy distances "before" and "after", on the fit's own seed, and on the
      held-out seeds with mean and standard error, also of the difference seed by seed.

    Raises:
      InputError: the model does not say for which size it was trained.
      FloatingPointError: a loss or a gradient is not finite.
    """
    _side(model)
    grid = model_grid(model, settings.nfe)
    start = {name: getattr(settings.parameters, name) for name in FAMILIES[settings.family][0]}
    default, many = (
        er_sde_plan(model, settings.order, nfe) for nfe in (settings.nfe, settings.reference_nfe)
    )

    templates = settings.templates
    texts = [
        prompts.prompt(templates, name, n) for name in settings.class_names for n in range(len(templates))
    ]
    text = jax.jit(diffusion.encode_text)(model, model.tokenize(texts))
    text = jnp.stack([text] * settings.images_per_prompt)
    scale = None if settings.guidance_scale == 1 else settings.guidance_scale
    batch = functools.partial(jax.jit(_latents), model, text, scale)
    distance = jax.jit(balanced_energy_distance)
    drawn = itertools.count(1)
    total = (1 + len(settings.held_out_seeds)) * (settings.reference_batches + 2 * settings.held_out_batches)

    def draw(plan: Plan, seed: int, purpose: str, batches: int) -> Array:
        parts = []
        for n in range(batches):
            parts.append(jax.block_until_ready(batch(plan, keys.fold(_key(seed, purpose), n))))
            notify("drawing", next(drawn), total, "")
        return jnp.concatenate(parts)

    def reference(seed: int) -> Array:
        return draw(many, seed, "reference", settings.reference_batches)

    def distances(plans: Sequence[Plan], seed: int, to: Array) -> list[float]:
        draws = [draw(p, seed, "fit", settings.held_out_batches) for p in plans]
        return [float(distance(x, to)) for x in draws]

    to = reference(settings.seed)
    fit = calibrate(
        Partial(functools.partial(_loss, settings), model, text, scale, grid, to),
        start,
        _key(settings.seed, "fit"),
        steps=settings.steps,
        learning_rate=settings.learning_rate,
        notify=lambda done, loss: notify("fit", done, settings.steps, f"{loss:.4g}"),
    )
    fitted = {name: float(value) for name, value in fit.parameters.items()}
    plan = fitted_plan(settings, grid, fitted)
    own = distances((default, plan), settings.seed, to)
    trials = [distances((default, plan), seed, reference(seed)) for seed in settings.held_out_seeds]
    figures = {
        "fit_seed": {"before": own[0], "after": own[1]},
        "held_out": _summary(settings.held_out_seeds, np.asarray(trials)),
    }
    return Fitted(plan, fitted, fit.losses.tolist(), figures)


def verdict(held_out: dict[str, Any]) -> str:
    """The result on the held-out seeds, in a line."""
    change = held_out["after_minus_before"]
    mean, error, seeds = change["mean"], change["standard_error"], len(held_out["seeds"])
    if abs(mean) <= CERTAIN * error:
        word, advice = "even", "the default plan is as good"
    elif mean < 0:
        word, advice = "better", "use the fitted plan"
    else:
        word, advice = "worse", "stay with the default plan: the fit followed its own seed's noise"
    return f"on {seeds} held-out seeds the fit is {word}, by {mean:+.2g} ± {error:.1g}: {advice}."


def _latents(
    model: diffusion.StableDiffusion, text: Array, guidance_scale: float | None, plan: Plan, key: Array
) -> Array:
    """One batch of latents [R, P, D] for text states [R, P, L, E]."""
    repeats, count = text.shape[:2]
    text = text.reshape(-1, *text.shape[2:])
    x = prior(plan, key, (len(text), *_side(model), model.unet.in_channels))
    x = sample(plan, diffusion.denoiser(model, text, guidance_scale), x, key)
    return x.reshape(repeats, count, -1)


def _side(model: diffusion.StableDiffusion) -> tuple[int, int]:
    """Height and width of the latents that a model was trained on."""
    side = model.unet.sample_size
    if side is None:
        raise InputError(
            "this model does not say for which size it was trained (sample_size in its unet/config.json); add it"
        )
    return (side, side) if isinstance(side, int) else side


def _loss(
    settings: CalibrationSettings,
    model: diffusion.StableDiffusion,
    text: Array,
    guidance_scale: float | None,
    grid: Grid,
    reference: Array,
    parameters: dict[str, Array],
    key: Array,
) -> Array:
    x = _latents(model, text, guidance_scale, fitted_plan(settings, grid, parameters), key)
    return balanced_energy_distance(x, reference)


def _key(seed: int, purpose: str) -> Array:
    return keys.purpose_key(keys.root_key(seed), f"calibration {purpose}")


def _summary(seeds: Sequence[int], distances: np.ndarray) -> dict[str, Any]:
    """Means and standard errors of distances [seeds, 2], before and after."""

    def mean(values: np.ndarray) -> dict[str, Any]:
        error = values.std(ddof=1) / math.sqrt(len(values))
        return {"mean": float(values.mean()), "standard_error": float(error), "values": values.tolist()}

    before, after = distances.T
    return {
        "seeds": list(seeds),
        "before": mean(before),
        "after": mean(after),
        "after_minus_before": mean(after - before),
        "fraction_improved": float((after < before).mean()),
    }
