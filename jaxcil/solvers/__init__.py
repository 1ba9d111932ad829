"""Samplers for diffusion models as tables of coefficients, run by one loop.

grid = karras_grid(20)
plan = er_sde(grid, phi(7), order=3)
x = sample(plan, denoiser, prior(plan, key, shape), key)
"""

from jaxcil.solvers.denoiser import Denoiser as Denoiser
from jaxcil.solvers.denoiser import classifier_free as classifier_free
from jaxcil.solvers.denoiser import from_epsilon as from_epsilon
from jaxcil.solvers.denoiser import from_v as from_v
from jaxcil.solvers.er_sde import er_sde as er_sde
from jaxcil.solvers.er_sde import er_sde_official as er_sde_official
from jaxcil.solvers.grid import Grid as Grid
from jaxcil.solvers.grid import beta_grid as beta_grid
from jaxcil.solvers.grid import grid_from_sigmas as grid_from_sigmas
from jaxcil.solvers.grid import karras_grid as karras_grid
from jaxcil.solvers.grid import log_grid as log_grid
from jaxcil.solvers.grid import scheduler_grid as scheduler_grid
from jaxcil.solvers.mixture import GaussianMixture as GaussianMixture
from jaxcil.solvers.noise_scale import NoiseScale as NoiseScale
from jaxcil.solvers.noise_scale import ode as ode
from jaxcil.solvers.noise_scale import phi as phi
from jaxcil.solvers.noise_scale import power as power
from jaxcil.solvers.plan import Node as Node
from jaxcil.solvers.plan import Plan as Plan
from jaxcil.solvers.plan import pad as pad
from jaxcil.solvers.plan import stack as stack
from jaxcil.solvers.sample import SamplerState as SamplerState
from jaxcil.solvers.sample import init as init
from jaxcil.solvers.sample import prior as prior
from jaxcil.solvers.sample import sample as sample
from jaxcil.solvers.sample import step as step
