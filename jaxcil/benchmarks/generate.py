"""The whole of `jaxcil generate`, from prompts to shards on the disk: how fast it is, and where its time goes.

    jaxcil benchmark generate
    jaxcil benchmark generate --model=sd15 --size=128 --batch=1 --nfe=4
    jaxcil benchmark generate --model=sd15 --batch=8,16,32 --dtype=bfloat16 --attention=xla,cudnn --profile=DIR

Each part is also timed alone. The time of the one program that draws minus that of its parts is the solver's arithmetic
and the loop; the time of the whole minus that of this program is everything on the host, mostly writing. Prompts are
encoded once per data set, so the text encoder is timed separately and is no part of a batch. Speed is compared with the
fastest matrix product of the same device in the same run, and on a CPU the UNet is timed in alternation with that of
torch diffusers. A measurement that fails after the table of speeds is replaced by the reason and costs no other figure.
"""

import dataclasses
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

import jaxcil
from jaxcil.benchmarks import torch_unet
from jaxcil.benchmarks.ceiling import matmul_ceiling
from jaxcil.benchmarks.drawing import (
    GUIDANCE,
    PROMPT,
    PROMPTS,
    Work,
    drawing,
    encoding,
    make_work,
    parts,
    placed,
    sides,
)
from jaxcil.benchmarks.timing import rounds_for, smallest_seconds
from jaxcil.benchmarks.trace import traced
from jaxcil.diffusion import folder, released
from jaxcil.diffusion.attention import IMPLEMENTATIONS
from jaxcil.diffusion.config import config_of
from jaxcil.diffusion.pipeline import StableDiffusion
from jaxcil.diffusion.tokenizer import read_tokenizer
from jaxcil.errors import InputError, unknown_name
from jaxcil.parallel import mesh

SHARDS = 4  # the first is not timed: it may wait for the compiler
SHARD_BATCHES = 4  # smaller shards than usual, so the fixed cost of each weighs more here
DTYPES = ("float32", "bfloat16")
NETWORKS = ("unet", "vae_decoder")
# What a measurement may fail with: memory, a disk, absent packages, another process.
FAILURES = (ImportError, InputError, MemoryError, OSError, RuntimeError)


def run(
    model: str = "digits",
    size: int | None = None,
    batch: Sequence[int] = (64,),
    nfe: int = 20,
    dtype: str = "float32",
    attention: Sequence[str] = (),
    profile: str | None = None,
) -> dict[str, Any]:
    """Draws with every kind of attention at every batch size, and analyses the fastest of them.

    Args:
      model: "digits", "sd15" (Stable Diffusion 1.5's shape with made-up parameters), or the folder of a pipeline.
      size: side of the images in pixels; None: that of the model's training.
      batch: images per device and call; sizes after one that runs out of memory are not tried.
      nfe: calls of the UNet per image, each guided and so of two samples.
      dtype: of the networks: "float32" or "bfloat16".
      attention: names of `diffusion.attention.IMPLEMENTATIONS`; empty: that of the model.
      profile: folder for a trace of one batch of the fastest; None: no trace.

    Returns:
      Figures as JSON values. Rates are those of all devices together.

    Raises:
      InputError: an argument is invalid, no layer of the model can use an attention here, a package that the model
        needs is missing, or no batch fits.
    """
    if dtype not in DTYPES:
        raise unknown_name("dtype", dtype, DTYPES)
    for name in attention:
        if name not in IMPLEMENTATIONS:
            raise unknown_name("attention implementation", name, IMPLEMENTATIONS)
    if not batch or min(batch) < 1:
        raise InputError(f"batch must be at least 1, got {', '.join(map(str, batch)) or 'nothing'}.")
    loaded = load(model, jnp.dtype(dtype))
    models = [placed(loaded, size=size, attention=name) for name in attention or (None,)]
    ceiling = matmul_ceiling(jnp.dtype(dtype)) * mesh.data_devices(mesh.generation_mesh())
    tried: list[tuple[dict[str, Any], Work]] = []
    for each in models:
        for images in batch:
            work = make_work(each, images=images, nfe=nfe)
            row = {
                "attention": each.unet.implementation,
                "images_per_device": images,
                "batch": work.batch,
                **_speed(work, ceiling),
            }
            print(row, file=sys.stderr, flush=True)  # kept if a later one ends the process
            tried.append((row, work))
            if row["images_per_second"] is None:
                break
    best, work = max(tried, key=lambda pair: pair[0]["images_per_second"] or 0)
    if best["images_per_second"] is None:
        raise InputError(
            f"a batch of {min(batch)} does not fit into the memory of the device; use a smaller one."
        )
    result = {
        "device": mesh.device_kind(),
        "jax": jax.__version__,
        "model": model,
        "latents": [*sides(work.model)],
        "nfe": nfe,
        "dtype": dtype,
        "matmul_ceiling_tflops": ceiling / 1e12,
        "drawing": [row for row, _ in tried],
        "best": {
            name: best[name] for name in ("attention", "images_per_device", "batch", "images_per_second")
        }
        | _or_reason(lambda: _apart(work, ceiling)),
        "text_encoder": _or_reason(lambda: _encoded(work)),
        "torch": _or_reason(lambda: _against_torch(work)),
    }
    if profile is not None:
        result["profile"] = _or_reason(lambda: traced(drawing(work), profile))
    return result


def fractions(seconds: dict[str, float], nfe: int) -> dict[str, float]:
    """Fractions of the time of the whole, which add up to 1; one that is too small to measure may be below 0.

    Args:
      seconds: of a batch: "drawing" (the one program), alone "unet" (one call) and "vae_decoder", and the "whole";
        if that was not timed, fractions are those of the drawing, and there is none for writing.
      nfe: calls of the UNet.
    """
    of = {name: seconds[name] * (nfe if name == "unet" else 1) for name in NETWORKS}
    of["solver"] = seconds["drawing"] - sum(of.values())
    if "whole" in seconds:
        of["writing"] = seconds["whole"] - seconds["drawing"]
    return {name: part / seconds.get("whole", seconds["drawing"]) for name, part in of.items()}


def load(model: str, dtype: Any) -> StableDiffusion:
    """A model by its name, see `run`; Stable Diffusion 1.5 gets 1,066 million made-up parameters."""
    if model == "sd15":
        # all ids take the same time, so the digits' tokenizer will do
        folder_of_digits = pathlib.Path(jaxcil.__file__).parent / "data/digits/generator/tokenizer"
        tokenizer = dataclasses.replace(read_tokenizer(folder_of_digits), length=77)
        shapes = released.abstract(released.RELEASED[model], tokenizer, dtype)
        return dataclasses.replace(shapes, parameters=released.made_up_parameters(shapes.parameters))
    try:
        from jaxcil.synthesis.drawing.models import EMBEDDED

        return folder.load(EMBEDDED.get(model, model), dtype)
    except ImportError as error:
        raise InputError(f"the model {model!r} needs more packages ({error}); sd15 does not.") from None


def _speed(work: Work, ceiling: float) -> dict[str, Any]:
    """Images per second of the program that draws; None if it needs more memory than there is."""
    program = drawing(work)
    way = {"drawing": program.call}
    try:
        seconds = smallest_seconds(way, rounds_for(way))["drawing"]
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return dict.fromkeys(("images_per_second", "tflops", "fraction_of_ceiling"))
    return {
        "images_per_second": work.batch / seconds,
        "tflops": program.flops / seconds / 1e12,
        "fraction_of_ceiling": program.flops / seconds / ceiling,
    }


def _apart(work: Work, ceiling: float) -> dict[str, Any]:
    """Where the time of a batch goes."""
    pieces = {"drawing": drawing(work), **parts(work)}
    ways = {name: piece.call for name, piece in pieces.items()}
    seconds = smallest_seconds(ways, rounds_for(ways))
    written = _or_reason(lambda: _written_seconds(work))
    status = f"not timed: {written['skipped']}" if "skipped" in written else "timed"
    work_done = {name: piece.flops for name, piece in pieces.items()}
    if status == "timed":
        seconds |= written
        work_done["whole"] = work_done["drawing"]
    speeds = {name: work_done[name] / seconds[name] for name in work_done}
    return {
        "images_per_second": work.batch / seconds.get("whole", seconds["drawing"]),
        "writing": status,
        "fractions": fractions(seconds, work.plan.rows),
        "seconds": seconds,
        "tflop_per_image": pieces["drawing"].flops / work.batch / 1e12,
        "tflops": {name: speed / 1e12 for name, speed in speeds.items()},
        "fraction_of_ceiling": {name: speed / ceiling for name, speed in speeds.items()},
    }


def _written_seconds(work: Work) -> dict[str, float]:
    """Seconds per batch of the "whole", and of "writing" alone: encoding, checksum and fsync of finished images.

    The whole is the difference of the times at which the first and the last shard of a data set were written. A shard
    whose fsync is late makes the next one seem fast, so only the mean is meaningful.
    """
    from jaxcil.synthesis.dataset import store
    from jaxcil.synthesis.dataset.manifest import Asked, begin
    from jaxcil.synthesis.drawing import generate

    shard, side = SHARD_BATCHES * work.batch, work.model.vae.factor
    config = {
        "templates": ["{}"],
        "guidance_scale": GUIDANCE,
        "seed": 0,
        "shard_size": shard,
        "image_size": [side * latents for latents in sides(work.model)],
    }
    draw = generate.drawing(work.model, work.plan, mesh.generation_mesh(), negative_prompt="")
    with tempfile.TemporaryDirectory(prefix="jaxcil-benchmark-", dir=os.curdir) as scratch:
        directory = pathlib.Path(scratch)
        manifest = begin(directory, Asked(config, [PROMPT], SHARDS * shard))
        generate.fill(directory, manifest, draw, work.model.tokenize, batch=work.batch)
        first, last = (store.sidecar_path(store.shard_path(directory, n)) for n in (0, SHARDS - 1))
        whole = (last.stat().st_mtime_ns - first.stat().st_mtime_ns) / 1e9 / (SHARDS - 1)
        pixels = store.read(directory, range(shard)).images

        def write() -> None:
            store.write_shard(directory, manifest, 0, iter(pixels), mesh.device_kind())

        ways = {"writing": write}
        writing = smallest_seconds(ways, rounds_for(ways))["writing"]
    return {"whole": whole / SHARD_BATCHES, "writing": writing / SHARD_BATCHES}


def _encoded(work: Work) -> dict[str, Any]:
    """The cost of a prompt, paid once however many images are drawn from it."""
    ways = {"call": encoding(work).call}
    return {"prompts_per_call": PROMPTS, "call_seconds": smallest_seconds(ways, rounds_for(ways))["call"]}


def _against_torch(work: Work) -> dict[str, Any]:
    """The UNet in alternation with torch's, whose process sleeps while ours is timed."""
    if jax.default_backend() != "cpu" or work.model.unet.dtype != jnp.float32:
        return {"skipped": "compared on a CPU and in float32 only"}
    lacking = torch_unet.missing()
    if lacking:
        return {"skipped": f"{' and '.join(lacking)} not installed: pip install 'jaxcil[convert]'"}
    ours = parts(work)["unet"]
    height, width = sides(work.model)
    latents = (2 * work.batch, height, width, work.model.unet.in_channels)
    text = (2 * work.batch, *work.text.shape[1:])
    nfe = work.plan.rows
    with torch_unet.torch_unet(config_of(work.model.unet), latents, text, nfe) as peer:
        ways = {"jaxcil": lambda: [ours.call() for _ in range(nfe)], "torch": peer.call}
        seconds = smallest_seconds(ways, rounds_for(ways))
    return {
        "way": peer.way,
        "call_seconds": {name: value / nfe for name, value in seconds.items()},
        "jaxcil_over_torch": seconds["jaxcil"] / seconds["torch"],
    }


def _or_reason(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Figures, or the reason for having none: an error must not cost those measured before."""
    try:
        return measure()
    except FAILURES as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        print(f"not measured: {reason}", file=sys.stderr, flush=True)
        return {"skipped": reason}
