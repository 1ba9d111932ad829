"""The program that draws a batch of images, and its parts alone, each with the operations that it does."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxcil import diffusion
from jaxcil.diffusion import StableDiffusion
from jaxcil.errors import InputError
from jaxcil.parallel import mesh
from jaxcil.parallel.flops import flops
from jaxcil.solvers import Plan, er_sde, scheduler_grid

PROMPT = "cat"
GUIDANCE = 2.0


class Work(NamedTuple):
    """A model on its devices, and one batch for it."""

    model: StableDiffusion
    plan: Plan
    ids: Array  # [B, L]
    keys: Array  # [B]
    scales: Array  # [B]

    @property
    def batch(self) -> int:
        """B, on all devices together."""
        return self.ids.shape[0]


class Part(NamedTuple):
    """A compiled function with its arguments."""

    call: Callable[[], object]  # returns when the result is there
    flops: int
    text: Callable[[], str]  # of the compiled program


def make_work(
    model: StableDiffusion, *, size: int | None, images: int, calls: int, attention: str | None
) -> Work:
    """A batch for all devices of this process.

    Args:
      model: the model.
      size: side of the images in pixels; None: that of the model's training.
      images: on each device.
      calls: of the UNet an image, each guided.
      attention: see `jaxcil.diffusion.attention.attend`; None: what `place` chooses.

    Raises:
      InputError: a size or a number of calls that the model cannot have.
    """
    # as generator.er_sde_plan, which cannot be imported where the data libraries are absent
    config = {**model.scheduler_config, "timestep_spacing": "trailing"}
    if not 1 <= calls <= 1000:
        raise InputError(f"the number of calls must lie in [1, 1000], got {calls}.")
    plan = er_sde(scheduler_grid(config, calls, "dpm", final="zero"), derivative="corrected")
    if size is not None:
        if size < 1 or size % model.vae.factor:
            raise InputError(f"size must be a multiple of {model.vae.factor} pixels, got {size}.")
        model = model.replace(unet=model.unet.clone(sample_size=size // model.vae.factor))  # type: ignore
    on = mesh.generation_mesh()
    batch = images * mesh.data_devices(on)
    model, plan = diffusion.place(model, on), mesh.place(plan, mesh.everywhere(on))
    if attention is not None:
        model = _attending(model, attention)
    ids = model.tokenize([PROMPT] * batch)
    keys = jax.random.split(jax.random.key(0), batch)
    return Work(model, plan, *mesh.shard_batch(on, (ids, keys, jnp.full(batch, GUIDANCE))))


def drawing(work: Work) -> Part:
    """The whole program: `text_to_image`."""
    return _part(_draw, work.model, work.plan, work.ids, work.keys, work.scales)


def parts(work: Work) -> dict[str, Part]:
    """One call of the UNet for both halves of the guidance, and what comes before and behind all its calls."""
    on = mesh.generation_mesh()
    height, width = sides(work.model)
    shape = (work.batch, height, width, work.model.unet.in_channels)
    latents = jax.random.normal(jax.random.key(1), shape)
    both = jnp.repeat(latents, 2, axis=0)
    text = work.model.text_encoder
    states = jax.random.normal(
        jax.random.key(2), (len(both), work.ids.shape[1], text.hidden_size), text.dtype
    )
    latents, both, states = mesh.shard_batch(on, (latents, both, states))
    return {
        "unet": _part(diffusion.unet, work.model, both, jnp.float32(500), states),
        "text_encoder": _part(_encode, work.model, work.ids),
        "vae_decoder": _part(diffusion.decode_latents, work.model, latents),
    }


def sides(model: StableDiffusion) -> tuple[int, int]:
    """Height and width of the latents."""
    side = model.unet.sample_size
    if side is None:
        raise InputError("this model does not say for which size it was trained: pass a size.")
    return (side, side) if isinstance(side, int) else side


def _part(function: Callable[..., Any], model: StableDiffusion, *arguments: Any) -> Part:
    program = jax.jit(function)
    return Part(
        lambda: jax.block_until_ready(program(model, *arguments)),
        # other kernels do the same work behind operations that cannot be counted
        flops(function, _attending(model, "xla"), *arguments),
        lambda: program.lower(model, *arguments).compile().as_text() or "",
    )


def _draw(model: StableDiffusion, plan: Plan, ids: Array, keys: Array, scales: Array) -> Array:
    return diffusion.text_to_image(model, plan, ids, keys, guidance_scale=scales)


def _encode(model: StableDiffusion, ids: Array) -> tuple[Array, Array]:
    return diffusion.encode_text(model, ids), diffusion.encode_text(model, model.tokenize([""]))


def _attending(model: StableDiffusion, implementation: str) -> StableDiffusion:
    networks = {name: getattr(model, name).clone(implementation=implementation) for name in model.parameters}
    return model.replace(**networks)  # type: ignore[attr-defined]
