"""What drawing a data set takes on a TPU pod: the step of `generate`, compiled ahead of time, without weights.

Parameters are shapes in bfloat16, those of a pipeline's configurations or of a model in `released`. The program is that
of `generate`, from text states to images: solver and decoder, the batch along the data axis, everything else on every
chip. (A prompt is encoded once, which is negligible compared with its images.) If several processes share a pod, each
runs the program on its own chips, with the same work and memory per chip.
"""

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
from jaxcil.diffusion.released import RELEASED, abstract
from jaxcil.diffusion.tokenizer import read_tokenizer
from jaxcil.errors import InputError, unknown_name
from jaxcil.parallel import mesh, pods
from jaxcil.solvers import Plan
from jaxcil.synthesis.drawing.models import EMBEDDED
from jaxcil.synthesis.drawing.settings import PodSettings
from jaxcil.workdir import files

SCHEMA = 2
GIB = 2**30
DTYPE = jnp.bfloat16
STEP = 4  # of the largest batch; one without divisors would be decoded image by image


def abstract_model(name: str) -> StableDiffusion:
    """A model whose parameters are shapes; neither its weights nor, if it is a released one, its tokenizer are read.

    Args:
      name: one of `RELEASED`, an embedded generator, or a folder in diffusers' format.

    Raises:
      InputError: there is no such model, or the folder is not complete.
    """
    if name in RELEASED:
        return abstract(RELEASED[name], dtype=DTYPE)
    folder = pathlib.Path(EMBEDDED.get(name, name))
    if not (folder / "model_index.json").is_file():
        raise InputError(
            f"{unknown_name('model', name, [*RELEASED, *EMBEDDED])} Or give a folder that holds a pipeline."
        )
    configs = {part: files.read_json(folder / part / "config.json") for part in PARTS}
    configs["scheduler"] = files.read_json(folder / "scheduler" / "scheduler_config.json")
    return abstract(configs, read_tokenizer(folder / "tokenizer"), DTYPE)


def plan_pod(
    model: StableDiffusion,
    plan: Plan,
    topology: str,
    batch_size: int,
    assumed: PodSettings,
) -> dict[str, Any]:
    """Compiles for a pod and computes what a data set takes on it.

    Args:
      model: of `abstract_model`.
      plan: a solver's table on a grid of the model.
      topology: as in `pods.pod`.
      batch_size: images per chip and call.
      assumed: images, utilization (nothing here predicts it) and compiles. With compiles = 1 the largest batch is not
        sought; with 2 it is extrapolated from this batch and half of it; with more it is compiled as well, reduced by a
        tenth each time it does not fit. It is a multiple of 4.

    Returns:
      JSON values; those of a program are per chip, in bytes.

    Raises:
      InputError: there is no such topology, or the batch does not fit.
    """
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
            f"a batch of {batch_size} per chip does not fit: {error} Use a smaller one (--config.batch_size)."
        ) from None
    largest = _largest_batch(compiled, programs, chip.memory, assumed.compiles - 1)
    work = pods.flops(_draw, *_shapes(model, plan, 1))
    height, width = jax.eval_shape(_draw, *_shapes(model, plan, 1)).shape[1:3]
    return {
        "schema": SCHEMA,
        "topology": topology,
        "chips": chips,
        "chip_memory": chip.memory,
        "image_size": [height, width],
        "nfe": plan.rows,
        "attention": placed.unet.implementation,
        "batch_size": batch_size,
        "programs": {str(batch): _values(program) for batch, program in sorted(programs.items())},
        "largest_batch": largest and {"images": largest, "compiled": largest in programs},
        "flops_per_image": work,
        "peak": chip.peak,
        "utilization": assumed.utilization,
        "images": assumed.images,
        "hours": assumed.images * work / (chips * chip.peak * assumed.utilization) / 3600,
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
        "program": f"{figures['batch_size']} images of {height} x {width} per chip, {figures['nfe']} guided calls, "
        f"for {figures['topology']} ({figures['chips']} chips), compiled in {program['seconds']:.0f} s",
        "memory per chip": f"{program['memory'] / GIB:.2f} of {available:.2f} GiB: {', '.join(parts)}",
        "collectives": ", ".join(used) or "none",
        "work": f"{figures['flops_per_image'] / 1e12:.3g} TFLOP per image",
        "time": f"{figures['images']:,} images in {figures['hours']:.3g} hours, at {figures['utilization']:.0%} of "
        f"{figures['peak'] / 1e12:.0f} TFLOP/s per chip",
    }
    if largest:
        how = "compiled" if largest["compiled"] else "extrapolated"
        lines["largest batch"] = f"{largest['images']} images per chip, {how}"
    return "\n".join(f"{name:17}{line}" for name, line in lines.items())


def _draw(fixed: Any, drawn: Any) -> Array:
    (model, plan, negative), (text, keys, scales) = fixed, drawn
    return draw_images(model, plan, text, keys, guidance_scale=scales, negative=negative)


def _shapes(model: StableDiffusion, plan: Plan, batch: int) -> tuple[Any, Any]:
    """The arguments of `_draw`: those that every chip holds, and those spread over the chips."""
    ids = jax.ShapeDtypeStruct((1, model.tokenizer.length), jnp.int32)
    negative = jax.eval_shape(encode_text, model, ids)
    text = jax.ShapeDtypeStruct((batch, *negative.shape[1:]), negative.dtype)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), batch))
    scales = jax.ShapeDtypeStruct((batch,), jnp.float32)
    return (model, jax.eval_shape(lambda: plan), negative), (text, keys, scales)


def _largest_batch(
    compiled: Callable[[int], pods.Program], programs: dict[int, pods.Program], available: int, left: int
) -> int | None:
    """The largest batch per chip, with at most `left` compilations, whose results are added to `programs`."""
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
