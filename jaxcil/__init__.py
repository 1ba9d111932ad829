"""Class-incremental learning in JAX with images that a diffusion model makes."""

__version__ = "0.1.0"
