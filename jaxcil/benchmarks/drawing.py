"""The program that draws a batch of images, and its parts alone, each with its number of operations."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcil import diffusion
from jaxcil.diffusion import StableDiffusion
from jaxcil.errors import InputError
from jaxcil.parallel import mesh
from jaxcil.parallel.pods import flops
from jaxcil.solvers import Plan
from jaxcil.synthesis.drawing.plans import er_sde_plan

PROMPT = "cat"
PROMPTS = 8  # per call of the encoder, as in synthesis.drawing.batches, which needs Pillow
GUIDANCE = 2.0
KERNELS = {"cudnn": "gpu", "flash": "tpu"}  # attention that one platform alone has


class Work(NamedTuple):
    """A model on its devices, and one batch for it."""

    model: StableDiffusion
    plan: Plan
    text: Array  # [B, L, D]
    negative: Array  # [1, L, D]
    keys: Array  # [B]
    scales: Array  # [B]

    @property
    def batch(self) -> int:
        """B, on all devices together."""
        return self.text.shape[0]


class Part(NamedTuple):
    """A compiled function with its arguments."""

    call: Callable[[], object]  # returns when the result is ready
    flops: int
    text: Callable[[], str]  # of the compiled program


def placed(model: StableDiffusion, *, size: int | None, attention: str | None) -> StableDiffusion:
    """A model on all devices of this process, whose networks name the attention that they really use.

    Args:
      model: the model.
      size: side of the images in pixels; None: that of the model's training.
      attention: see `jaxcil.diffusion.attention.attend`; None: the choice of `place`, or "xla" if no layer can
        use it.

    Raises:
      InputError: a size that the model cannot have, or an attention that no layer can use here.
    """
    if size is not None:
        if size < 1 or size % model.vae.factor:
            raise InputError(f"size must be a multiple of {model.vae.factor} pixels, got {size}.")
        model = model.replace(unet=model.unet.clone(sample_size=size // model.vae.factor))  # type: ignore
    on = mesh.generation_mesh()
    model = diffusion.place(model, on)
    asked = attention or model.unet.implementation
    if asked == "xla":
        return _attending(model, asked)
    if mesh.platform(on) == KERNELS[asked] and _program(model, asked) != _program(model, "xla"):
        return _attending(model, asked)
    if attention is None:
        return _attending(model, "xla")
    height, width = sides(model)
    raise InputError(
        f"no layer of this model can use attention by {asked!r} on {mesh.platform(on)} in {model.unet.dtype} at "
        f"latents of {height} x {width}, so XLA's would be timed under its name. Use xla; see "
        "jaxcil.diffusion.attention.kernel for what each needs."
    )


def make_work(model: StableDiffusion, *, images: int, nfe: int) -> Work:
    """A batch for all devices of this process.

    Args:
      model: of `placed`.
      images: on each device.
      nfe: calls of the UNet per image, each guided.

    Raises:
      InputError: nfe is out of range.
    """
    on, plan = mesh.generation_mesh(), er_sde_plan(model, 3, nfe)
    batch = images * mesh.data_devices(on)
    ids = mesh.place(model.tokenize([PROMPT, ""]), mesh.everywhere(on))
    text, negative = np.split(np.asarray(jax.jit(diffusion.encode_text)(model, ids)), 2)
    keys = jax.random.split(jax.random.key(0), batch)
    scales = np.full(batch, GUIDANCE, np.float32)
    text, keys, scales = mesh.shard_batch(on, (np.repeat(text, batch, axis=0), keys, scales))
    plan, negative = mesh.place((plan, negative), mesh.everywhere(on))
    return Work(model, plan, text, negative, keys, scales)


def drawing(work: Work) -> Part:
    """The whole program: `draw_images` of text states that are already computed."""
    conditions = {"negative": work.negative, "guidance_scale": work.scales}
    return _part(diffusion.draw_images, work.model, work.plan, work.text, work.keys, **conditions)


def parts(work: Work) -> dict[str, Part]:
    """One call of the UNet for both halves of the guidance, and the decoder that follows all calls."""
    latents = jax.random.normal(jax.random.key(1), _latents(work.model, work.batch))
    both, states = jnp.repeat(latents, 2, axis=0), jnp.repeat(work.text, 2, axis=0)
    latents, both, states = mesh.shard_batch(mesh.generation_mesh(), (latents, both, states))
    return {
        "unet": _part(diffusion.unet, work.model, both, jnp.float32(500), states),
        "vae_decoder": _part(diffusion.decode_latents, work.model, latents),
    }


def encoding(work: Work) -> Part:
    """Text states of `PROMPTS` prompts: one call of the encoder."""
    ids = work.model.tokenize([PROMPT] * PROMPTS)
    return _part(diffusion.encode_text, work.model, mesh.place(ids, mesh.everywhere(mesh.generation_mesh())))


def sides(model: StableDiffusion) -> tuple[int, int]:
    """Height and width of the latents."""
    side = model.unet.sample_size
    if side is None:
        raise InputError("the config.json of this model's UNet has no sample_size: pass a size.")
    return (side, side) if isinstance(side, int) else side


def _part(function: Callable[..., Any], model: StableDiffusion, *arguments: Any, **named: Any) -> Part:
    program = jax.jit(function)
    return Part(
        lambda: jax.block_until_ready(program(model, *arguments, **named)),
        # other kernels do the same work in operations that cannot be counted
        flops(functools.partial(function, **named), _attending(model, "xla"), *arguments),
        lambda: program.lower(model, *arguments, **named).compile().as_text() or "",
    )


def _latents(model: StableDiffusion, images: int) -> tuple[int, int, int, int]:
    return images, *sides(model), model.unet.in_channels


def _program(model: StableDiffusion, implementation: str) -> str:
    """The program of UNet and decoder with an attention, for one image per device; traced, not run."""

    def once(model: StableDiffusion, latents: Array, text: Array) -> tuple[Array, Array]:
        return diffusion.unet(model, latents, 500, text), diffusion.decode_latents(model, latents)

    images = mesh.data_devices(mesh.generation_mesh())
    text = (images, model.tokenizer.length, model.text_encoder.hidden_size)
    shapes = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (_latents(model, images), text))
    return str(jax.make_jaxpr(once)(_attending(model, implementation), *shapes))


def _attending(model: StableDiffusion, implementation: str) -> StableDiffusion:
    networks = {name: getattr(model, name).clone(implementation=implementation) for name in model.parameters}
    return model.replace(**networks)  # type: ignore[attr-defined]
