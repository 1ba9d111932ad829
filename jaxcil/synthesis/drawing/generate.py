"""Draws what is missing of a synthetic data set, shard by shard, in one process or several.

An image's noise is always the same (`batches`). Its pixels are the same on one backend at one batch size per device,
which is why the batch size is part of the config, and why the last batch is filled up rather than cut.
"""

import collections
import dataclasses
import functools
import hashlib
import itertools
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcil.data import encoding
from jaxcil.diffusion.config import config_of
from jaxcil.diffusion.folder import PARTS
from jaxcil.diffusion.model import StableDiffusion, encode_text
from jaxcil.diffusion.pipeline import check_plan, draw_images
from jaxcil.diffusion.placement import place
from jaxcil.errors import InputError
from jaxcil.parallel import mesh
from jaxcil.solvers.plan import Plan
from jaxcil.synthesis.dataset import card, prompts, sharing, store
from jaxcil.synthesis.dataset.manifest import Asked, Manifest, begin, digest, join
from jaxcil.synthesis.dataset.shard_writer import ShardWriter
from jaxcil.synthesis.dataset.sharing import Worker
from jaxcil.synthesis.drawing import batches
from jaxcil.synthesis.drawing.batches import Draw, PromptEmbeddings
from jaxcil.synthesis.drawing.settings import check
from jaxcil.workdir import files
from jaxcil.workdir.progress import Progress

# Settings of networks that are newer than the first data sets.
NEW_SETTINGS = (
    "center_input_sample",
    "conv_in_kernel",
    "conv_out_kernel",
    "mid_block_scale_factor",
    "num_class_embeds",
    "only_cross_attention",
)


def generate(
    directory: str | os.PathLike,
    model: StableDiffusion,
    plan: Plan,
    class_names: Sequence[str],
    images_per_class: int,
    *,
    templates: Sequence[str] = prompts.PHOTO_TEMPLATES,
    phrases: Mapping[str, Sequence[str]] | None = None,
    negative_prompt: str = "",
    guidance_scale: float | Sequence[float] = 2.0,
    seed: int = 0,
    batch_size: int = 8,
    shard_size: int = 1000,
    image_size: int | None = None,
    format: str = "png",
    quality: int | None = None,
    worker: str | None = None,
    notes: dict[str, Any] | None = None,
) -> Manifest:
    """Draws a synthetic data set, resumes it, or extends it.

    Several processes may do so at once in one directory; each draws shards that no other process has (`sharing`).

    Args:
      directory: made if absent.
      model: the text-to-image model.
      plan: a solver's table on a grid of the model.
      class_names: distinct; position is label. To extend a set, append new names.
      images_per_class: at least 1; may be larger than before.
      templates: prompts with {} for the class and {a|b} for choices; taken in turn.
      phrases: names that prompts use for a class, in turn; classes without an entry are called by their name. See
        `prompts.listed_phrases`.
      negative_prompt: what to avoid, in all images.
      guidance_scale: of classifier-free guidance; 1 is none, at the same work; several are taken in turn.
      seed: of all noise.
      batch_size: images per device and call.
      shard_size: images per file, at most lost by an interruption.
      image_size: side of the stored images, to which they are resized; None: that of the model's images.
      format: of the stored images, png, jpeg or webp; see `encoding`.
      quality: see `encoding`.
      worker: "i/n" restricts this process to shards i, i + n, ..., for file systems whose locks do not reach from host
        to host; None draws any shard that no other process has, or those of the process's number in jax.distributed.
      notes: JSON values for the manifest that say where the model and the plan came from.

    Returns:
      The manifest. The set is complete except for shards of other processes.

    Raises:
      InputError: an argument is invalid, or the directory cannot be written, holds a set of another config or is in
        use; all of this before anything is compiled. Or the disk is full.
    """
    prompts.check_class_names(class_names)
    prompts.check_templates(templates)
    prompts.check_phrases(phrases or {}, class_names)
    prompts.check_negative_prompt(negative_prompt)
    scales = prompts.checked_scales(guidance_scale)
    if negative_prompt and np.equal(scales, 1).all():
        raise InputError(
            "a negative prompt acts through guidance, which guidance_scale=1 switches off; use a larger scale."
        )
    check(
        images_per_class=images_per_class,
        seed=seed,
        batch_size=batch_size,
        shard_size=shard_size,
        image_size=image_size,
        format=format,
        quality=quality,
    )
    stored_as = encoding.encoding(format, quality)
    this_worker = sharing.this_worker(worker)
    check_plan(model, plan)
    drawn_size = _drawn_size(model)
    _check_prompts_differ(model, class_names, templates, phrases or {})
    directory = files.writable_directory(directory)
    config = {
        "model": {
            "sha256": fingerprint(model),
            "prediction_type": model.prediction_type,
            **({} if model.unet.dtype == np.float32 else {"dtype": model.unet.dtype.name}),
        },
        "plan": {
            field: np.asarray(value, float).tolist() for field, value in dataclasses.asdict(plan).items()
        },
        "templates": list(templates),
        "guidance_scale": scales,
        **({"negative_prompt": negative_prompt} if negative_prompt else {}),
        "seed": seed,
        "image_size": list(drawn_size) if image_size is None else [image_size, image_size],
        **({} if stored_as == encoding.Encoding() else {"encoding": stored_as._asdict()}),
        "batch_size": batch_size,
        "shard_size": shard_size,
    }
    asked = Asked(config, class_names, images_per_class, phrases or {})
    beginning = functools.partial(begin, directory, asked, notes)
    joining = functools.partial(join, directory, asked)
    with sharing.admitted(directory, this_worker, beginning, joining) as manifest:
        if store.missing_shards(directory, manifest):
            draw_missing(directory, manifest, model, this_worker)
        if not store.missing_shards(directory, manifest) and sharing.finishes(directory, this_worker):
            with sharing.finishing(directory, this_worker):
                store.finish(directory, manifest)
                card.write_card(directory)
    return manifest


def draw_missing(
    directory: str | os.PathLike, manifest: Manifest, model: StableDiffusion, worker: Worker | None = None
) -> None:
    """Draws and writes the missing shards of a data set, with the plan and guidance of its manifest.

    Args:
      directory: of the data set.
      manifest: of `begin` or `read_manifest`.
      model: has the fingerprint in the manifest, which is not compared here.
      worker: this process; None draws any shard that no other process has.
    """
    config, on = manifest.config, mesh.generation_mesh()
    plan = Plan(**{field: jnp.asarray(values, jnp.float32) for field, values in config["plan"].items()})
    draw = drawing(place(model, on), plan, on, config.get("negative_prompt", ""))
    batch = config["batch_size"] * mesh.data_devices(on)
    fill(directory, manifest, draw, model.tokenize, batch=batch, worker=worker)


def drawing(model: StableDiffusion, plan: Plan, on: jax.sharding.Mesh, negative_prompt: str) -> Draw:
    """One compiled program from ids, keys and scales to images, its batch spread over the devices of a mesh.

    The prompts' embeddings come from another program, which every device runs whole, once per prompt.

    Args:
      model: placed on the mesh by `diffusion.placement.place`.
      plan: a solver's table on a grid of the model.
      on: the mesh.
      negative_prompt: what to avoid, in all images.
    """
    plan = mesh.place(plan, mesh.everywhere(on))
    encode, program = jax.jit(encode_text), jax.jit(draw_images)
    text = PromptEmbeddings(lambda ids: encode(model, mesh.place(ids, mesh.everywhere(on))))
    negative = mesh.place(text.of(model.tokenize([negative_prompt])), mesh.everywhere(on))

    def draw(ids: np.ndarray, image_keys: Array, scales: np.ndarray) -> Array:
        states, image_keys, scales = mesh.shard_batch(on, (text.of(ids), image_keys, scales))
        return program(model, plan, states, image_keys, negative=negative, guidance_scale=scales)

    return draw


def fill(
    directory: str | os.PathLike,
    manifest: Manifest,
    draw: Draw,
    tokenize: Callable[[list[str]], np.ndarray],
    *,
    batch: int,
    worker: Worker | None = None,
) -> None:
    """Draws and writes the missing shards of a data set that no other process draws.

    A batch may hold images of several shards, so that only the last batch is filled up. Drawing continues while earlier
    images are written, but a further shard is begun only when the last one is complete: a kill costs the current
    shard, and at most a batch beyond it.

    Args:
      directory: of the data set.
      manifest: of `begin`.
      draw: always called with `batch` images.
      tokenize: prompts to ids [B, L].
      batch: B.
      worker: this process; None draws any shard that no other process has.
    """
    missing = store.missing_shards(directory, manifest)
    shards, total = manifest.requests.shards, manifest.requests.total
    done = total - sum(stop - start for start, stop in (shards[shard] for shard in missing))
    drawn = batches.batch_drawer(manifest, draw, tokenize, batch)
    ahead: collections.deque[tuple[list[tuple[int, int]], Array]] = collections.deque()

    def write(shard: int, pixels: Iterable[np.ndarray]) -> None:
        start, stop = shards[shard]
        some = itertools.islice(pixels, stop - start)
        store.write_shard(directory, manifest, shard, some, mesh.device_kind())
        leases.release(shard)

    def hand_over(left: int) -> None:
        """Passes batches to the writer as they come from the devices, until only `left` are pending."""
        nonlocal done
        while len(ahead) > left:
            chunk, pixels = ahead.popleft()
            numbers = [number for _, number in chunk]
            for (shard, _), image in zip(chunk, batches.stored(manifest, numbers, pixels)):
                writer.give(shard, image)
                done += 1
                progress.reach(done)

    with (
        sharing.Leases(directory, worker) as leases,
        ShardWriter(write, most=batch) as writer,
        Progress("images", total, "image", done, pathlib.Path(directory) / "tensorboard") as progress,
    ):
        for chunk, ended in _chunks(directory, manifest, leases, batch):
            ahead.append((chunk, drawn([number for _, number in chunk])))
            hand_over(left=0 if ended else 1)
            for shard in ended:
                writer.wait(shard)


def fingerprint(model: StableDiffusion) -> str:
    """SHA-256 of everything that decides a model's output: parameters, networks and tokenizer."""
    modules = {part: getattr(model, part) for part in PARTS}
    described = {
        "networks": {part: [_settings(net), np.dtype(net.dtype).name] for part, net in modules.items()},
        "tokenizer": dataclasses.asdict(model.tokenizer),
        "prediction_type": model.prediction_type,
    }
    total = hashlib.sha256(digest(described).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(model.parameters):
        values = np.asarray(leaf)
        total.update(f"{jax.tree_util.keystr(path)} {values.dtype} {values.shape}".encode())
        total.update(values.tobytes())
    return total.hexdigest()


def _settings(network: Any) -> dict[str, Any]:
    """A network's settings except newer ones at their defaults, which must not change a fingerprint."""
    usual = config_of(type(network)())
    return {
        name: value
        for name, value in config_of(network).items()
        if name not in NEW_SETTINGS or value != usual[name]
    }


def _chunks(
    directory: str | os.PathLike, manifest: Manifest, leases: sharing.Leases, batch: int
) -> Iterator[tuple[list[tuple[int, int]], list[int]]]:
    """Batches of (shard, request), each with the shards that end in it; a shard is leased when it is reached."""
    chunk: list[tuple[int, int]] = []
    ended: list[int] = []
    for shard in _leased(directory, manifest, leases):
        numbers = range(*manifest.requests.shards[shard])
        for number in numbers:
            chunk.append((shard, number))
            if number == numbers[-1]:
                ended.append(shard)
            if len(chunk) == batch:
                yield chunk, ended
                chunk, ended = [], []
    if chunk:
        yield chunk, ended


def _leased(directory: str | os.PathLike, manifest: Manifest, leases: sharing.Leases) -> Iterator[int]:
    """Missing shards that no other process has, until all that are missing are leased by others."""
    leased = True
    while leased:
        leased = False
        for shard in store.missing_shards(directory, manifest):
            if not leases.acquire(shard):
                continue
            if store.is_complete(directory, manifest, shard):  # since it was listed
                leases.release(shard)
                continue
            leased = True
            yield shard


def _check_prompts_differ(
    model: StableDiffusion,
    class_names: Sequence[str],
    templates: Sequence[str],
    phrases: Mapping[str, Sequence[str]],
) -> None:
    """Refuses classes with the same token ids: their labels would be arbitrary."""
    owners: dict[bytes, str] = {}
    for name in class_names:
        texts = phrases.get(name, ())
        turns = range(len(templates) * max(1, len(texts)))
        for row in model.tokenize([prompts.prompt(templates, name, index, texts) for index in turns]):
            other = owners.setdefault(row.tobytes(), name)
            if other != name:
                raise InputError(
                    f"the classes {other!r} and {name!r} have a prompt in common: the model reads "
                    f"{model.tokenizer.length} tokens and ignores case. Shorten the templates or rename a class."
                )


def _drawn_size(model: StableDiffusion) -> tuple[int, int]:
    """Height and width of the images that a model was trained to draw from text alone.

    Raises:
      InputError: its config does not say, or it needs more than text.
    """
    unet, channels = model.unet, model.vae.latent_channels
    if unet.in_channels != channels or unet.num_class_embeds is not None:
        raise InputError(
            f"this model draws from more than text: its UNet takes {unet.in_channels} channels for {channels} of "
            f"latents, and {unet.num_class_embeds or 'no'} class labels. Use one that needs neither."
        )
    side = unet.sample_size
    if side is None:
        raise InputError(
            "the config.json of this model's UNet has no sample_size, so it cannot be used here."
        )
    height, width = (side, side) if isinstance(side, int) else side
    return height * model.vae.factor, width * model.vae.factor
