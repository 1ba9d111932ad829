"""Samplers for diffusion models as tables of coefficients, run by one loop.

grid = karras_grid(20)
plan = er_sde(grid, phi(7), order=3)
x = sample(plan, denoiser, prior(plan, key, shape), key)
"""

from jaxcil.solvers.ancestral import ancestral as ancestral
from jaxcil.solvers.beta_grid import beta_grid as beta_grid
from jaxcil.solvers.beta_grid import beta_nodes as beta_nodes
from jaxcil.solvers.beta_grid import beta_schedule as beta_schedule
from jaxcil.solvers.beta_grid import scheduler_betas as scheduler_betas
from jaxcil.solvers.beta_grid import scheduler_grid as scheduler_grid
from jaxcil.solvers.beta_grid import zero_terminal_snr as zero_terminal_snr
from jaxcil.solvers.ddim import ddim as ddim
from jaxcil.solvers.denoiser import Denoiser as Denoiser
from jaxcil.solvers.denoiser import classifier_free as classifier_free
from jaxcil.solvers.denoiser import classifier_guided as classifier_guided
from jaxcil.solvers.denoiser import clipped as clipped
from jaxcil.solvers.denoiser import dynamic_threshold as dynamic_threshold
from jaxcil.solvers.denoiser import from_epsilon as from_epsilon
from jaxcil.solvers.denoiser import from_flow as from_flow
from jaxcil.solvers.denoiser import from_score as from_score
from jaxcil.solvers.denoiser import from_v as from_v
from jaxcil.solvers.dpm_solver import dpmpp_2m as dpmpp_2m
from jaxcil.solvers.dpm_solver import sde_dpmpp_2m as sde_dpmpp_2m
from jaxcil.solvers.er_sde import er_sde as er_sde
from jaxcil.solvers.er_sde import er_sde_comfy as er_sde_comfy
from jaxcil.solvers.er_sde import er_sde_official as er_sde_official
from jaxcil.solvers.euler_maruyama import euler_maruyama as euler_maruyama
from jaxcil.solvers.grid import Grid as Grid
from jaxcil.solvers.grid import flow_grid as flow_grid
from jaxcil.solvers.grid import grid_from_sigmas as grid_from_sigmas
from jaxcil.solvers.grid import karras_grid as karras_grid
from jaxcil.solvers.grid import log_grid as log_grid
from jaxcil.solvers.grid import vp_cosine_grid as vp_cosine_grid
from jaxcil.solvers.grid import vp_grid as vp_grid
from jaxcil.solvers.heun import heun as heun
from jaxcil.solvers.mixture import GaussianMixture as GaussianMixture
from jaxcil.solvers.noise_scale import NoiseScale as NoiseScale
from jaxcil.solvers.noise_scale import ode as ode
from jaxcil.solvers.noise_scale import phi as phi
from jaxcil.solvers.noise_scale import power as power
from jaxcil.solvers.noise_scale import product as product
from jaxcil.solvers.noise_scale import strength as strength
from jaxcil.solvers.plan import Node as Node
from jaxcil.solvers.plan import Plan as Plan
from jaxcil.solvers.plan import pad as pad
from jaxcil.solvers.plan import stack as stack
from jaxcil.solvers.sample import SamplerState as SamplerState
from jaxcil.solvers.sample import init as init
from jaxcil.solvers.sample import prior as prior
from jaxcil.solvers.sample import sample as sample
from jaxcil.solvers.sample import step as step
