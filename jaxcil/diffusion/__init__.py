"""Stable Diffusion 1.x and 2.x in Flax."""

# `unet` and `image_to_image` are the functions. Importing them has put the submodules of those names here, and the
# bindings below replace them; `from jaxcil.diffusion.unet import UNet2DCondition` still finds the submodule.
from jaxcil.diffusion.folder import load as load
from jaxcil.diffusion.folder import save as save
from jaxcil.diffusion.image_to_image import image_to_image as image_to_image
from jaxcil.diffusion.image_to_image import shortened as shortened
from jaxcil.diffusion.model import StableDiffusion as StableDiffusion
from jaxcil.diffusion.model import decode_latents as decode_latents
from jaxcil.diffusion.model import encode_image as encode_image
from jaxcil.diffusion.model import encode_text as encode_text
from jaxcil.diffusion.model import pooled_text as pooled_text
from jaxcil.diffusion.model import unet as unet
from jaxcil.diffusion.pipeline import Conditions as Conditions
from jaxcil.diffusion.pipeline import check_plan as check_plan
from jaxcil.diffusion.pipeline import denoiser as denoiser
from jaxcil.diffusion.pipeline import draw_images as draw_images
from jaxcil.diffusion.pipeline import text_to_image as text_to_image
from jaxcil.diffusion.placement import place as place
