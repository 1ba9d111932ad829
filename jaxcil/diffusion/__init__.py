"""Stable Diffusion 1.x and 2.x in Flax."""

# `unet` is the function. Importing the pipeline has put the submodule of that name here, and the binding
# below replaces it; `from jaxcil.diffusion.unet import UNet2DCondition` still finds the submodule.
from jaxcil.diffusion.folder import load as load
from jaxcil.diffusion.folder import save as save
from jaxcil.diffusion.pipeline import StableDiffusion as StableDiffusion
from jaxcil.diffusion.pipeline import check_plan as check_plan
from jaxcil.diffusion.pipeline import decode_latents as decode_latents
from jaxcil.diffusion.pipeline import denoiser as denoiser
from jaxcil.diffusion.pipeline import encode_image as encode_image
from jaxcil.diffusion.pipeline import encode_text as encode_text
from jaxcil.diffusion.pipeline import text_to_image as text_to_image
from jaxcil.diffusion.pipeline import unet as unet
