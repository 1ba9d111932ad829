"""Sampling on several devices and in several processes.

As a program, this file draws one worker's requests into a directory: `python FILE DIRECTORY WORKER`.
"""

import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

import jaxcil.diffusion as sd
from jaxcil import keys
from jaxcil.parallel import mesh
from jaxcil.solvers import er_sde, prior, scheduler_grid
from jaxcil.synthesis.dataset import numbering, store
from jaxcil.synthesis.drawing.generate import drawing, generate

SD1 = pathlib.Path(__file__).parents[1] / "golden/stable_diffusion/sd1"
CLASSES = ("cat", "dog", "fox", "owl")
PER_DEVICE, SHARD = 4, 8


def draw_part(directory, worker):
    """64 images by all devices of the mesh, or a worker's part of them, and the noise that they start from."""
    model = sd.load(SD1)
    plan = er_sde(scheduler_grid(model.scheduler_config, 2, final="zero"))
    manifest = generate(
        directory, model, plan, CLASSES, 16, batch_size=PER_DEVICE, shard_size=SHARD, seed=11, worker=worker
    )
    on = mesh.generation_mesh()
    index, count = map(int, worker.split("/"))
    numbers = [
        number
        for shard, (start, stop) in enumerate(manifest.requests.shards)
        if shard % count == index
        for number in range(start, stop)
    ]
    labels, indices = numbering.located(manifest.requests, numbers)
    image_keys = keys.image_keys(keys.root_key(11), labels.astype(np.uint32), indices.astype(np.uint32))
    started = jax.jit(prior, static_argnums=2)(
        plan, mesh.shard_batch(on, image_keys), (len(numbers), 8, 8, 4)
    )
    np.savez(directory.with_name(f"noise-{index}-{count}.npz"), numbers=numbers, noise=started)


def noise(directory):
    """Noise of all requests, in their order."""
    parts = [np.load(file) for file in directory.parent.glob("noise-*.npz")]
    order = np.argsort(np.concatenate([part["numbers"] for part in parts]))
    return np.concatenate([part["noise"] for part in parts])[order]


@pytest.mark.slow
def test_devices_and_processes_draw_the_same_noise_and_the_same_images(tmp_path, monkeypatch):
    directories = {name: tmp_path / name / "set" for name in ("one", "four", "two-by-two")}
    environment = os.environ | {
        "XLA_FLAGS": os.environ["XLA_FLAGS"].replace("device_count=4", "device_count=2"),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    directories["two-by-two"].mkdir(parents=True)
    processes = [
        subprocess.Popen([sys.executable, __file__, directories["two-by-two"], worker], env=environment)
        for worker in ("0/2", "1/2")
    ]
    meshes = {name: mesh.generation_mesh(jax.devices()[:n]) for name, n in (("one", 1), ("four", 4))}
    for name, on in meshes.items():
        monkeypatch.setattr(mesh, "generation_mesh", lambda on=on: on)
        directories[name].mkdir(parents=True)
        draw_part(directories[name], "0/1")
    assert [process.wait() for process in processes] == [0, 0]
    sets = {name: store.read(directory) for name, directory in directories.items()}
    for name in ("four", "two-by-two"):
        np.testing.assert_array_equal(noise(directories[name]), noise(directories["one"]))
        np.testing.assert_array_equal(sets[name].images, sets["one"].images)
        np.testing.assert_array_equal(sets[name].labels, sets["one"].labels)
    assert len({image.tobytes() for image in sets["one"].images}) == 64
    backends = {store.sidecar(directories["two-by-two"], shard)["backend"] for shard in range(8)}
    assert backends == {"cpu: cpu, 2 in 1 process(es)"}


def test_four_devices_draw_what_one_draws_without_a_collective():
    model = sd.load(SD1)
    plan = er_sde(scheduler_grid(model.scheduler_config, 3, final="zero"))
    ids = model.tokenize(["a photo of a cat", "a dog", "a fox", ""])
    image_keys = keys.image_keys(keys.root_key(0), np.arange(4), np.arange(4))
    scales = np.float32([1, 2, 2, 4])
    four, one = (
        np.asarray(drawing(sd.place(model, on), plan, on, "dark")(ids, image_keys, scales))
        for on in (mesh.generation_mesh(jax.devices()[:n]) for n in (4, 1))
    )
    # Equal noise; the networks round differently at one image a device and at four: 1e-4 in [-1, 1]
    np.testing.assert_allclose(four, one, atol=1e-4)
    on = mesh.generation_mesh(jax.devices()[:4])
    placed = mesh.place((model, plan), mesh.everywhere(on)), mesh.shard_batch(on, (ids, image_keys, scales))
    program = (
        jax.jit(lambda fixed, batch: sd.text_to_image(*fixed, *batch[:2], guidance_scale=batch[2]))
        .lower(*placed)
        .compile()
        .as_text()
    )
    assert "all-reduce" not in program
    assert "all-gather" not in program
    assert "collective-permute" not in program


if __name__ == "__main__":
    draw_part(pathlib.Path(sys.argv[1]), sys.argv[2])
