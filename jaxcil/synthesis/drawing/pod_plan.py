"""What drawing a data set takes of a TPU pod: the step of `generate`, compiled ahead of time, without weights.

Parameters are shapes in bfloat16, those of a pipeline's configurations or of a model that `released` describes. The
program is that of `generate`, from text states to images: solver and decoder, the batch along the data axis, all else
on every chip. (A prompt is encoded once, which is no work beside its images.) Where several processes share a pod each
runs it on its own chips, with the same work and memory a chip.
"""

import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxcil.diffusion.folder import PARTS
from jaxcil.diffusion.model import StableDiffusion, encode_text
from jaxcil.diffusion.pipeline import draw_images
from jaxcil.diffusion.placement import place
from jaxcil.diffusion.released import RELEASED
from jaxcil.diffusion.tokenizer import Tokenizer, read_tokenizer
from jaxcil.errors import InputError, unknown_name
from jaxcil.parallel import mesh, pods
from jaxcil.parallel.flops import flops
from jaxcil.solvers import Plan
from jaxcil.synthesis.drawing.models import EMBEDDED
from jaxcil.workdir import files

SCHEMA = 1
GIB = 2**30
DTYPE = jnp.bfloat16
STEP = 4  # of the largest batch: one without divisors would be decoded image by image


def abstract_model(name: str) -> StableDiffusion:
    """A model whose parameters are shapes; neither its weights nor, if it is a released one, its tokenizer are read.

    Args:
      name: one of `RELEASED`, an embedded generator, or a folder in diffusers' format.

    Raises:
      InputError: there is no such model, or the folder is not complete.
    """
    if name in RELEASED:
        configs, tokenizer = RELEASED[name], Tokenizer(text="", bos="", eos="", pad="")
    else:
        folder = pathlib.Path(EMBEDDED.get(name, name))
        if not (folder / "model_index.json").is_file():
            raise InputError(
                f"{unknown_name('model', name, [*RELEASED, *EMBEDDED])} Or give a folder that holds a pipeline."
            )
        configs = {part: files.read_json(folder / part / "config.json") for part in PARTS}
        configs["scheduler"] = files.read_json(folder / "scheduler" / "scheduler_config.json")
        tokenizer = read_tokenizer(folder / "tokenizer")
    modules = {part: kind.from_config(configs[part], dtype=DTYPE) for part, (kind, _, _) in PARTS.items()}
    key = jax.eval_shape(lambda: jax.random.key(0))
    parameters = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, DTYPE),
        {part: jax.eval_shape(module.initial, key) for part, module in modules.items()},
    )
    scheduler = json.dumps(configs["scheduler"], sort_keys=True)
    return StableDiffusion(parameters=parameters, **modules, tokenizer=tokenizer, scheduler=scheduler)


def plan_pod(
    model: StableDiffusion,
    plan: Plan,
    topology: str,
    batch_size: int,
    *,
    images: int,
    share: float,
    compiles: int,
) -> dict[str, Any]:
    """Compiles for a pod and works out what a data set takes of it.

    Args:
      model: of `abstract_model`.
      plan: a solver's table on a grid of the model.
      topology: as in `pods.pod`.
      batch_size: images a chip and call.
      images: that are to be drawn.
      share: of the chips' peak that is reached, in (0, 1]; nothing here says which it will be.
      compiles: at most. 1: the largest batch is not sought. 2: it is extrapolated, from this batch and half of it.
        More: it is compiled too, a tenth less each time that it does not fit. It is a multiple of 4.

    Returns:
      JSON values; those of a program are a chip's, in bytes.

    Raises:
      InputError: an argument is of no use, or the batch does not fit.
    """
    for name, value in (("batch_size", batch_size), ("images", images), ("compiles", compiles)):
        if value < 1:
            raise InputError(f"{name} must be at least 1, got {value}.")
    if not 0 < share <= 1:
        raise InputError(f"share must lie in (0, 1], got {share}.")
    chip, on = pods.pod(topology)
    chips, placed = mesh.data_devices(on), place(model, on)

    def compiled(batch: int) -> pods.Program:
        fixed, drawn = _shapes(placed, plan, batch * chips)
        fixed, drawn = pods.abstract(fixed, mesh.everywhere(on)), pods.abstract(drawn, mesh.per_image(on))
        return pods.compile_ahead(_draw, fixed, drawn)

    try:
        programs = {batch_size: compiled(batch_size)}
    except pods.OutOfMemory as error:
        raise InputError(
            f"a batch of {batch_size} a chip does not fit: {error} Take a smaller one (--config.batch_size)."
        ) from None
    largest = _largest_batch(compiled, programs, chip.memory, compiles - 1)
    work = flops(_draw, *_shapes(model, plan, 1))
    height, width = jax.eval_shape(_draw, *_shapes(model, plan, 1)).shape[1:3]
    return {
        "schema": SCHEMA,
        "topology": topology,
        "chips": chips,
        "chip_memory": chip.memory,
        "image_size": [height, width],
        "calls": plan.rows,
        "attention": placed.unet.implementation,
        "batch_size": batch_size,
        "programs": {str(batch): _values(program) for batch, program in sorted(programs.items())},
        "largest_batch": largest and {"images": largest, "compiled": largest in programs},
        "flops_an_image": work,
        "peak": chip.peak,
        "share": share,
        "images": images,
        "hours": images * work / (chips * chip.peak * share) / 3600,
        "versions": pods.compiler(),
    }


def report(figures: dict[str, Any]) -> str:
    """The figures of `plan_pod` as text."""
    program, largest = figures["programs"][str(figures["batch_size"])], figures["largest_batch"]
    height, width = figures["image_size"]
    available = figures["chip_memory"] / GIB
    parts = [f"{name} {program[name] / GIB:.2f}" for name in ("arguments", "temporaries", "output", "code")]
    used = [f"{count} {name}" for name, count in program["collectives"].items()]
    lines = {
        "program": f"{figures['batch_size']} images of {height} x {width} a chip, {figures['calls']} guided calls, "
        f"for {figures['topology']} ({figures['chips']} chips), compiled in {program['seconds']:.0f} s",
        "memory a chip": f"{program['memory'] / GIB:.2f} of {available:.2f} GiB: {', '.join(parts)}",
        "collectives": ", ".join(used) or "none",
        "work": f"{figures['flops_an_image'] / 1e12:.3g} TFLOP an image",
        "time": f"{figures['images']:,} images in {figures['hours']:.3g} hours, if {figures['share']:.0%} of "
        f"{figures['peak'] / 1e12:.0f} TFLOP/s a chip are reached",
    }
    if largest:
        how = "compiled" if largest["compiled"] else "extrapolated"
        lines["largest batch"] = f"{largest['images']} images a chip, {how}"
    return "\n".join(f"{name:15}{line}" for name, line in lines.items())


def _draw(fixed: Any, drawn: Any) -> Array:
    (model, plan, negative), (text, keys, scales) = fixed, drawn
    return draw_images(model, plan, text, keys, guidance_scale=scales, negative=negative)


def _shapes(model: StableDiffusion, plan: Plan, batch: int) -> tuple[Any, Any]:
    """The arguments of `_draw`: what every chip holds, and what is spread over them."""
    ids = jax.ShapeDtypeStruct((1, model.tokenizer.length), jnp.int32)
    negative = jax.eval_shape(encode_text, model, ids)
    text = jax.ShapeDtypeStruct((batch, *negative.shape[1:]), negative.dtype)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), batch))
    scales = jax.ShapeDtypeStruct((batch,), jnp.float32)
    return (model, jax.eval_shape(lambda: plan), negative), (text, keys, scales)


def _largest_batch(
    compiled: Callable[[int], pods.Program], programs: dict[int, pods.Program], available: int, left: int
) -> int | None:
    """The largest batch a chip, if so many compilations are left; `programs` gets what they gave."""
    if not left:
        return None
    (known,) = programs
    other = known // 2 or 2
    try:
        programs[other] = compiled(other)
    except pods.OutOfMemory:
        return known
    memory = {batch: program.memory for batch, program in programs.items()}
    largest = max(pods.largest_batch(memory, available) // STEP * STEP, *programs)
    for _ in range(left - 1):
        if largest in programs:
            break
        try:
            programs[largest] = compiled(largest)
        except pods.OutOfMemory:
            largest = max(largest * 9 // 10 // STEP * STEP, *programs)
    return largest


def _values(program: pods.Program) -> dict[str, Any]:
    return program._asdict() | {"memory": program.memory}
