"""Noise scales phi of the extended reverse-time SDE (arXiv:2309.06169, equation 8 and its table of choices).

A solver may add any amount of noise h^2 a step and keep the marginals, as long as

    rho = d log phi / d log lam = 1 + h^2 / g^2  >= 1.

Only ratios of phi matter, and forming phi overflows float32, so a noise scale is given by

    k(log lam) = log(phi / lam),        dk / d log lam = rho - 1 = h^2 / g^2 >= 0.          (1)

k constant is the probability-flow ODE, k = log lam the reverse-time SDE.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxcil.solvers.grid import check_scalar, is_concrete


@flax.struct.dataclass
class NoiseScale:
    """k of (1) as an elementwise, differentiable function of its parameters and log lam.

    `log_ratio(parameters, log_lam)` returns k in the shape of log_lam, up to a constant. The parameters
    are leaves, so that they may be swept or fitted; the function itself is static, so let it be one of a
    module's and not a new lambda a run, which would compile again.
    """

    log_ratio: Callable[[Any, Array], Array] = flax.struct.field(pytree_node=False)
    parameters: Any = ()

    def excess(self, log_lam: Array) -> Array:
        """rho - 1 = dk / d log lam, elementwise, by forward differentiation."""

        def k(log_lam: Array) -> Array:
            return self.log_ratio(self.parameters, log_lam)

        return jax.jvp(k, (log_lam,), (jnp.ones_like(log_lam),))[1]

    def difference(self, log_lam: Array, base: Array) -> Array:
        """k(log_lam) - k(base)."""
        return self.log_ratio(self.parameters, log_lam) - self.log_ratio(self.parameters, base)


def ode() -> NoiseScale:
    """phi = lam: no noise, the probability-flow ODE."""
    return NoiseScale(_ode)


def power(eta: ArrayLike) -> NoiseScale:
    """phi = lam^(1 + eta), so that h^2 = eta g^2.

    eta = 0 is the ODE and eta = 1 the reverse-time SDE; more than 1 is allowed. The slope of a sample in
    eta is infinite at eta = 0: fit from above.
    """
    check_scalar("eta", eta)
    return NoiseScale(_power, eta)


def phi(type: int, eta: ArrayLike = 0.0) -> NoiseScale:
    """The seven noise scales of the paper and its code.

    Args:
      type: 1: lam (ODE). 2: lam^2 (reverse-time SDE). 3: lam (exp(lam^(eta - 1) / (eta - 1)) + 10).
        4: lam^1.5. 5: lam^2.5. 6: lam^0.9 log10(1 + 100 lam^1.5), legal up to lam = 1022 only.
        7: lam (exp(lam^0.3) + 10), the paper's choice for images.
      eta: of type 3 alone, not 1; a leaf.
    """
    if type not in range(1, 8):
        raise ValueError(f"the noise scale type must be a whole number from 1 to 7, got {type!r}.")
    if type == 3:
        if is_concrete(eta) and not (np.ndim(eta) == 0 and np.isfinite(eta) and np.asarray(eta) != 1):
            raise ValueError(
                f"noise scale type 3 divides by eta - 1; eta must not be 1, and one finite number, got {eta}."
            )
        return NoiseScale(_type_3, eta)
    if type == 1:
        return ode()
    if type in (6, 7):
        return NoiseScale(_type_6 if type == 6 else _type_7)
    return power({2: 1.0, 4: 0.5, 5: 1.5}[type])


def strength(base: NoiseScale, s: ArrayLike) -> NoiseScale:
    """phi = lam (base / lam)^s: s times the added noise h^2 of `base`.

    s = 0 is the ODE, 1 is `base`, and more adds more noise than it. The slope of a sample in s is infinite
    at s = 0: fit from above.

    Args:
      base: any noise scale; its parameters stay leaves.
      s: >= 0; a leaf.
    """
    check_noise_scale(base)
    check_scalar("s", s)
    return NoiseScale(_scaled(base.log_ratio), (s, base.parameters))


def product(*scales: NoiseScale) -> NoiseScale:
    """phi / lam as the product of those of several noise scales: the added noises h^2 add up."""
    if not scales:
        raise ValueError("product needs at least one noise scale; ode() adds no noise.")
    for scale in scales:
        check_noise_scale(scale)
    return NoiseScale(
        _summed(tuple(scale.log_ratio for scale in scales)), tuple(scale.parameters for scale in scales)
    )


def check_noise_scale(value: Any) -> None:
    """Refuses what is no noise scale."""
    if not isinstance(value, NoiseScale):
        raise ValueError(
            f"noise_scale must be a NoiseScale, such as phi(7), ode() or power(0.5), got {value!r}. "
            "(The order of ER-SDE is the argument after it.)"
        )


# Cached: the same function for the same base, so that a program compiled for one serves the next.
@functools.cache
def _scaled(log_ratio: Callable[[Any, Array], Array]) -> Callable[[Any, Array], Array]:
    def scaled(parameters: Any, log_lam: Array) -> Array:
        s, inner = parameters
        return jnp.asarray(s, log_lam.dtype) * log_ratio(inner, log_lam)

    return scaled


@functools.cache
def _summed(log_ratios: tuple[Callable[[Any, Array], Array], ...]) -> Callable[[Any, Array], Array]:
    def summed(parameters: Any, log_lam: Array) -> Array:
        total = jnp.zeros_like(log_lam)
        for log_ratio, inner in zip(log_ratios, parameters):
            total = total + log_ratio(inner, log_lam)
        return total

    return summed


def _ode(parameters: Any, log_lam: Array) -> Array:
    return jnp.zeros_like(log_lam)


def _power(eta: ArrayLike, log_lam: Array) -> Array:
    return jnp.asarray(eta, log_lam.dtype) * log_lam


def _type_3(eta: ArrayLike, log_lam: Array) -> Array:
    exponent = jnp.asarray(eta, log_lam.dtype) - 1
    return jnp.logaddexp(jnp.exp(exponent * log_lam) / exponent, math.log(10.0))


def _type_6(parameters: Any, log_lam: Array) -> Array:
    return jnp.log(jnp.log1p(100 * jnp.exp(1.5 * log_lam))) - 0.1 * log_lam


def _type_7(parameters: Any, log_lam: Array) -> Array:
    # lam^0.3, whose exponent is not 0.3 in float32 but 4e-8 more; at high lam phi / lam changes by e^16 in a step
    q = jnp.exp(0.25 * log_lam + 0.05 * log_lam)
    # logaddexp(q, log 10) without its slope, which rounds ten times worse
    return q + jnp.log1p(10 * jnp.exp(-q))
