"""Makes what is missing of a synthetic data set, shard by shard.

Image (class, index) has its own key and prompt, so it starts from the same noise in any batch, on any number
of devices and after any restart. Pixels are equal too on one backend at one batch size a device, which is
why it is part of the config, and why the last batch is filled up rather than cut.
"""

import dataclasses
import functools
import hashlib
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from PIL import Image

from jaxcil import files, keys
from jaxcil.diffusion.config import config_of
from jaxcil.diffusion.folder import PARTS
from jaxcil.diffusion.pipeline import StableDiffusion, check_plan, text_to_image
from jaxcil.errors import InputError
from jaxcil.parallel import mesh
from jaxcil.progress import Progress
from jaxcil.solvers.plan import Plan
from jaxcil.synthesis import card, conditions, prompts, requests, store
from jaxcil.synthesis.manifest import Manifest, begin, digest

# (token ids [B, L], keys [B], guidance scales [B]) -> images [B, H, W, 3] float32 in [-1, 1], for one B.
Draw = Callable[[np.ndarray, Array, np.ndarray], Array]


def generate(
    directory: str | os.PathLike,
    model: StableDiffusion,
    plan: Plan,
    class_names: Sequence[str],
    images_a_class: int,
    *,
    templates: Sequence[str] = prompts.PHOTO_TEMPLATES,
    phrases: Mapping[str, Sequence[str]] | None = None,
    negative_prompt: str = "",
    guidance_scale: float | Sequence[float] = 2.0,
    seed: int = 0,
    batch_size: int = 8,
    shard_size: int = 1000,
    image_size: int | None = None,
    notes: dict[str, Any] | None = None,
) -> Manifest:
    """Makes a synthetic data set, goes on where it stopped, or extends it.

    Args:
      directory: made if absent.
      model: the text-to-image model.
      plan: a solver's table on a grid of the model.
      class_names: distinct; position is label. To extend a set, put new names behind.
      images_a_class: at least 1; may be larger than before.
      templates: prompts with {} for the class and {a|b} for choices; taken in turn.
      phrases: what prompts call a class, in turn, for those that they do not call by their name; of
        `prompts.listed_phrases`, or one's own.
      negative_prompt: what to keep away from, in all images.
      guidance_scale: of classifier-free guidance; 1 is none; several are taken in turn.
      seed: of all noise.
      batch_size: images a device and call.
      shard_size: images a file; what one interruption can cost.
      image_size: side of the stored images; the model's own, or that to which they are resized.
      notes: JSON values for the manifest that tell where the model and the plan came from.

    Returns:
      The manifest of the complete set.

    Raises:
      InputError: an argument is of no use, the directory cannot be written, or holds a set of another
        config; before anything is compiled.
    """
    prompts.check_class_names(class_names)
    prompts.check_templates(templates)
    prompts.check_phrases(phrases or {}, class_names)
    prompts.check_negative_prompt(negative_prompt)
    scales = conditions.checked_scales(guidance_scale)
    if negative_prompt and np.equal(scales, 1).all():
        raise InputError("a negative prompt acts through guidance, and guidance_scale is 1: none. Raise it.")
    for name, value in (
        ("images_a_class", images_a_class),
        ("batch_size", batch_size),
        ("shard_size", shard_size),
        ("image_size", 1 if image_size is None else image_size),
    ):
        if value < 1:
            raise InputError(f"{name} must be at least 1, got {value}.")
    if not 0 <= seed < 2**32:
        raise InputError(f"seed must lie in [0, 2^32 - 1], got {seed}.")
    check_plan(model, plan)
    drawn_size = _drawn_size(model)
    directory = files.writable_directory(directory)
    config = {
        "model": {"sha256": fingerprint(model), "prediction_type": model.prediction_type},
        "plan": {
            field: np.asarray(value, float).tolist() for field, value in dataclasses.asdict(plan).items()
        },
        "templates": list(templates),
        "guidance_scale": scales,
        **({"negative_prompt": negative_prompt} if negative_prompt else {}),
        "seed": seed,
        "image_size": list(drawn_size) if image_size is None else [image_size, image_size],
        "batch_size": batch_size,
        "shard_size": shard_size,
    }
    manifest = begin(
        directory, config, class_names, images_a_class, shard_size=shard_size, notes=notes, phrases=phrases
    )
    if store.missing_shards(directory, manifest):
        draw_missing(directory, manifest, model)
    store.finish(directory, manifest)
    card.write_card(directory)
    return manifest


def draw_missing(directory: str | os.PathLike, manifest: Manifest, model: StableDiffusion) -> None:
    """Draws and writes the shards of a data set that are missing, by the plan and guidance of its manifest.

    Args:
      directory: of the data set.
      manifest: of `begin` or `read_manifest`.
      model: of the fingerprint in the manifest; not compared here.
    """
    config, on = manifest.config, mesh.generation_mesh()
    plan = Plan(**{field: jnp.asarray(values, jnp.float32) for field, values in config["plan"].items()})
    draw = drawing(model, plan, on, config.get("negative_prompt", ""))
    fill(directory, manifest, draw, model.tokenize, batch=config["batch_size"] * mesh.data_devices(on))


def drawing(model: StableDiffusion, plan: Plan, on: jax.sharding.Mesh, negative_prompt: str) -> Draw:
    """One compiled program from ids, keys and scales to images, its batch spread over the devices of a mesh."""
    negative_ids = model.tokenize([negative_prompt]) if negative_prompt else None
    model, plan = mesh.place((model, plan), mesh.everywhere(on))
    program = jax.jit(text_to_image)

    def draw(ids: np.ndarray, image_keys: Array, scales: np.ndarray) -> Array:
        ids, image_keys, scales = mesh.shard_batch(on, (ids, image_keys, scales))
        return program(model, plan, ids, image_keys, guidance_scale=scales, negative_ids=negative_ids)

    return draw


def fill(
    directory: str | os.PathLike,
    manifest: Manifest,
    draw: Draw,
    tokenize: Callable[[list[str]], np.ndarray],
    *,
    batch: int,
) -> None:
    """Draws and writes the shards of a data set that are missing.

    Args:
      directory: of the data set.
      manifest: of `begin`.
      draw: called with `batch` images at a time, always.
      tokenize: prompts to ids [B, L].
      batch: B.
    """
    missing = store.missing_shards(directory, manifest)
    ranges = [range(*manifest.requests.shards[shard]) for shard in missing]
    total = manifest.requests.total
    done = total - sum(map(len, ranges))
    images = _images(manifest, list(itertools.chain(*ranges)), draw, tokenize, batch)
    with Progress("images", total, "image", done) as progress:

        def counted(count: int) -> Iterator[np.ndarray]:
            nonlocal done
            for image in itertools.islice(images, count):
                done += 1
                progress.reach(done)
                yield image

        for shard, numbers in zip(missing, ranges):
            store.write_shard(directory, manifest, shard, counted(len(numbers)), mesh.device_kind())


def fingerprint(model: StableDiffusion) -> str:
    """SHA-256 of all that decides a model's output: parameters, networks and tokenizer."""
    modules = {part: getattr(model, part) for part in PARTS}
    described = {
        "networks": {part: [config_of(net), np.dtype(net.dtype).name] for part, net in modules.items()},
        "tokenizer": dataclasses.asdict(model.tokenizer),
        "prediction_type": model.prediction_type,
    }
    total = hashlib.sha256(digest(described).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path(model.parameters):
        values = np.asarray(leaf)
        total.update(f"{jax.tree_util.keystr(path)} {values.dtype} {values.shape}".encode())
        total.update(values.tobytes())
    return total.hexdigest()


def _images(
    manifest: Manifest,
    numbers: Sequence[int],
    draw: Draw,
    tokenize: Callable[[list[str]], np.ndarray],
    batch: int,
) -> Iterator[np.ndarray]:
    """Images uint8 [H, W, 3] of requests, in their order; one batch is drawn ahead of the one handed out."""
    ahead: list[tuple[Sequence[int], Array]] = []
    root = keys.root_key(manifest.config["seed"])
    make_keys = jax.jit(functools.partial(keys.image_keys, root))
    for start in range(0, len(numbers), batch):
        chunk = numbers[start : start + batch]
        full = [*chunk, *[chunk[-1]] * (batch - len(chunk))]
        labels, indices = requests.located(manifest.requests, full)
        places = list(zip(labels.tolist(), indices.tolist()))
        ids = tokenize([conditions.prompt_of(manifest, label, index) for label, index in places])
        scales = np.array(
            [conditions.scale_of(manifest, label, index) for label, index in places], np.float32
        )
        image_keys = make_keys(labels.astype(np.uint32), indices.astype(np.uint32))
        ahead.append((chunk, draw(ids, image_keys, scales)))
        if len(ahead) > 1:
            yield from _stored(manifest, *ahead.pop(0))
    for chunk, drawn in ahead:
        yield from _stored(manifest, chunk, drawn)


def _stored(manifest: Manifest, chunk: Sequence[int], drawn: Array) -> Iterator[np.ndarray]:
    """Images [B, H, W, 3] in [-1, 1] as uint8 of the size asked for; those that fill up the batch go."""
    size = manifest.image_size
    for number, image in zip(chunk, np.asarray(drawn)):
        if not np.isfinite(image).all():  # uint8 has no word for it: seen now or never
            raise InputError(
                f"the model drew no number (NaN or infinity) in image {manifest.name_of(number)} (request {number}). "
                "Load it in float32, or take a smaller guidance scale."
            )
        pixels = np.round((np.clip(image, -1, 1) / 2 + 0.5) * 255).astype(np.uint8)
        if pixels.shape[:2] != size:
            height, width = size
            resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS)
            pixels = np.asarray(resized)
        yield pixels


def _drawn_size(model: StableDiffusion) -> tuple[int, int]:
    """Height and width of the images that a model was trained to draw."""
    side = model.unet.sample_size
    if side is None:
        raise InputError("this model does not say for which size it was trained, so it cannot be used here.")
    height, width = (side, side) if isinstance(side, int) else side
    return height * model.vae.factor, width * model.vae.factor
