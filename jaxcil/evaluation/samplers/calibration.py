"""Fits the noise scale of ER-SDE to a Stable Diffusion model at few calls, and judges the fit on other noise.

The objective is the energy distance between latents of the plan's samples and a reference: latents of the same
model, prompts and guidance, drawn with many calls of the default plan. Both sides have every prompt equally often.
With guidance the samples of many calls still depend on the noise scale a little; the reference is what the
paper's default gives there.

A fit looks at the noise of its own seed. The figures that count are those of other seeds, each with a
reference of its own, so that their standard error covers all that was drawn.
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
from jaxcil.errors import InputError, unknown_name
from jaxcil.evaluation.samplers.distances import balanced_energy_distance
from jaxcil.solvers import Grid, NoiseScale, Plan, er_sde, phi, power, prior, product, sample, strength
from jaxcil.solvers.calibrate import calibrate
from jaxcil.synthesis.dataset import prompts
from jaxcil.synthesis.drawing.models import er_sde_plan, model_grid

# Noise scales by name: which parameters they have, and how they are made of them.
FAMILIES: dict[str, tuple[tuple[str, ...], Callable[..., NoiseScale]]] = {
    "strength": (("s",), lambda s: strength(phi(7), s)),
    "power": (("eta",), power),
    "product": (("s", "eta"), lambda s, eta: product(strength(phi(7), s), power(eta))),
}

CERTAIN = 2  # standard errors from which a difference is told as one
# (stage, done, total, note)
Tell = Callable[[str, int, int, str], None]


class Solver(NamedTuple):
    """ER-SDE with a noise scale whose parameters are open."""

    family: str
    calls: int
    order: int
    derivative: str
    start: str

    def plan(self, grid: Grid, parameters: dict[str, Any]) -> Plan:
        """The plan on a grid."""
        noise_scale = FAMILIES[self.family][1](**parameters)
        return er_sde(grid, noise_scale, self.order, derivative=self.derivative, start=self.start)


class Settings(NamedTuple):
    """How a fit is made and judged.

    A batch has P = classes x templates prompts, and R = images_per_prompt latents of each.
    """

    guidance_scale: float
    images_per_prompt: int
    reference_calls: int
    reference_batches: int
    steps: int
    learning_rate: float
    seed: int
    held_out_seeds: Sequence[int]
    held_out_batches: int


class Fitted(NamedTuple):
    """A plan, and what it is worth."""

    plan: Plan
    parameters: dict[str, float]
    losses: list[float]  # one a step
    figures: dict[str, Any]


def calibrate_sampler(
    model: diffusion.StableDiffusion,
    class_names: Sequence[str],
    templates: Sequence[str],
    solver: Solver,
    parameters: dict[str, float],
    settings: Settings,
    tell: Tell,
) -> Fitted:
    """Fits a solver's parameters, and measures the objective before and after.

    Args:
      model: the text-to-image model.
      class_names: all with equally many latents.
      templates: prompts with {} for the class name, each with equally many latents too.
      solver: what is fitted. Before is the default plan: phi 7 at the same order and calls, as published.
      parameters: to start from, > 0; those that the family does not have are not used.
      settings: numbers of the fit and of its trial.
      tell: progress.

    Returns:
      The fitted plan; its figures are energy distances "before" and "after", on the fit's own seed, and on the
      held-out seeds with mean and standard error, also of the difference seed by seed.

    Raises:
      InputError: an argument is of no use; before anything is compiled.
      FloatingPointError: a loss or a gradient is not finite.
    """
    prompts.check_class_names(class_names)
    prompts.check_templates(templates)
    check(solver, settings)
    grid = model_grid(model, solver.calls)
    start = {name: float(parameters[name]) for name in FAMILIES[solver.family][0]}
    if not all(0 < value < math.inf for value in start.values()):
        raise InputError(f"parameters must be positive and finite to start from, got {start}.")
    _side(model)
    default, many = (er_sde_plan(model, solver.order, n) for n in (solver.calls, settings.reference_calls))
    try:
        solver.plan(grid, start)
    except ValueError as error:
        raise InputError(str(error)) from None

    texts = [prompts.prompt(templates, name, n) for name in class_names for n in range(len(templates))]
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
            tell("drawing", next(drawn), total, "")
        return jnp.concatenate(parts)

    def reference(seed: int) -> Array:
        return draw(many, seed, "reference", settings.reference_batches)

    def distances(plans: Sequence[Plan], seed: int, to: Array) -> list[float]:
        draws = [draw(p, seed, "fit", settings.held_out_batches) for p in plans]
        return [float(distance(x, to)) for x in draws]

    to = reference(settings.seed)
    fit = calibrate(
        Partial(functools.partial(_loss, solver), model, text, scale, grid, to),
        start,
        _key(settings.seed, "fit"),
        steps=settings.steps,
        learning_rate=settings.learning_rate,
        tell=lambda done, loss: tell("fit", done, settings.steps, f"{loss:.4g}"),
    )
    fitted = {name: float(value) for name, value in fit.parameters.items()}
    plan = solver.plan(grid, fitted)
    own = distances((default, plan), settings.seed, to)
    trials = [distances((default, plan), seed, reference(seed)) for seed in settings.held_out_seeds]
    figures = {
        "fit_seed": {"before": own[0], "after": own[1]},
        "held_out": _summary(settings.held_out_seeds, np.asarray(trials)),
    }
    return Fitted(plan, fitted, fit.losses.tolist(), figures)


def verdict(held_out: dict[str, Any]) -> str:
    """What the held-out seeds say, in a line."""
    change = held_out["after_minus_before"]
    mean, error, seeds = change["mean"], change["standard_error"], len(held_out["seeds"])
    if abs(mean) <= CERTAIN * error:
        found, advice = "even", "the default plan is as good"
    elif mean < 0:
        found, advice = "better", "use the fitted plan"
    else:
        found, advice = "worse", "stay with the default plan: the fit followed its own seed's noise"
    return f"on {seeds} held-out seeds the fit is {found}, by {mean:+.2g} ± {error:.1g}: {advice}."


def check(solver: Solver, settings: Settings) -> None:
    """Refuses settings of no use, without a model.

    Raises:
      InputError: names the first that is wrong.
    """
    if solver.family not in FAMILIES:
        raise unknown_name("family of noise scales", solver.family, FAMILIES)
    counts = {
        "calls": solver.calls,
        **{name: value for name, value in settings._asdict().items() if name.endswith(("batches", "steps"))},
    }
    for name, value in counts.items():
        if value < 1:
            raise InputError(f"{name} must be at least 1, got {value}.")
    if settings.images_per_prompt < 2:
        raise InputError(
            f"images_per_prompt must be at least 2, to know its spread, got {settings.images_per_prompt}."
        )
    if settings.reference_calls <= solver.calls:
        raise InputError(
            f"the reference needs more calls than the {solver.calls} that are fitted, got {settings.reference_calls}."
        )
    if not 0 < settings.learning_rate < math.inf:
        raise InputError(f"learning_rate must be positive and finite, got {settings.learning_rate}.")
    if not math.isfinite(settings.guidance_scale):
        raise InputError(f"guidance_scale must be finite, got {settings.guidance_scale}.")
    seeds = tuple(settings.held_out_seeds)
    if len(seeds) < 2 or len({*seeds, settings.seed}) < len(seeds) + 1:
        raise InputError(
            f"held-out seeds must be two or more, all different and none that of the fit ({settings.seed}), "
            f"got {seeds}."
        )
    for seed in (settings.seed, *seeds):
        if not isinstance(seed, int) or not 0 <= seed < 2**32:
            raise InputError(f"a seed is a whole number from 0 to 2^32 - 1, got {seed!r}.")


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
        raise InputError("this model does not say for which size it was trained, so it cannot be used here.")
    return (side, side) if isinstance(side, int) else side


def _loss(
    solver: Solver,
    model: diffusion.StableDiffusion,
    text: Array,
    guidance_scale: float | None,
    grid: Grid,
    reference: Array,
    parameters: dict[str, Array],
    key: Array,
) -> Array:
    x = _latents(model, text, guidance_scale, solver.plan(grid, parameters), key)
    return balanced_energy_distance(x, reference)


def _key(seed: int, purpose: str) -> Array:
    return keys.purpose_key(keys.root_key(seed), f"calibration {purpose}")


def _summary(seeds: Sequence[int], distances: np.ndarray) -> dict[str, Any]:
    """Of [seeds, 2] distances before and after."""

    def mean(values: np.ndarray) -> dict[str, Any]:
        error = values.std(ddof=1) / math.sqrt(len(values))
        return {"mean": float(values.mean()), "standard_error": float(error), "values": values.tolist()}

    before, after = distances.T
    return {
        "seeds": list(seeds),
        "before": mean(before),
        "after": mean(after),
        "after_minus_before": mean(after - before),
        "share_improved": float((after < before).mean()),
    }
