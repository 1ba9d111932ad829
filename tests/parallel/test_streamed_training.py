"""A training of streamed images in several processes: each reads the images of its own devices.

As a program, this file trains as one process of two: `python FILE DIRECTORY ADDRESS INDEX`.
"""

import dataclasses
import os
import pathlib
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxcil import keys
from jaxcil.experiment.auxiliary import AuxiliaryImages
from jaxcil.experiment.benchmark import load_benchmark
from jaxcil.experiment.pool import ImagePool
from jaxcil.experiment.settings import defaults, resolve
from jaxcil.experiment.variants import VARIANTS
from jaxcil.parallel import mesh as meshes
from jaxcil.training import loop
from jaxcil.training.learner import Part, whole

SIDE, BATCH, STEPS, CHUNK = 4, 8, 6, 3
REAL, OTHER = 5, 3  # images of a batch


def weigh(learner, total, batch, key):
    """Adds up all pixels, each image with its place in the batch: whole numbers, the same in any order."""
    images, labels, auxiliary = batch
    places = jnp.arange(len(labels), dtype=jnp.int32) + 1
    pixels = images.astype(jnp.int32).sum((1, 2, 3)) + 1000 * labels + 10_000 * auxiliary
    return total + (pixels * places).sum(), {"total": (pixels * places).sum().astype(jnp.float32)}


def train(folder, runs):
    """What the runs add up to, and which images were read here."""
    config = defaults()
    config.update(dataset=str(folder), stream="whole", image_size=SIDE)
    config.training.steps = STEPS
    config.scenario.class_order = "ant,bee,cat,dog"
    benchmark = load_benchmark(resolve(config))
    records, read = benchmark.train.records, []
    counted = dataclasses.replace(records, read=lambda row: read.append(row) or records.read(row))
    benchmark = benchmark._replace(train=benchmark.train._replace(records=counted))
    shades = np.arange(12, dtype=np.uint8)[:, None, None, None]
    images = np.broadcast_to(shades, (12, SIDE, SIDE, 3))
    pool = ImagePool(benchmark, AuxiliaryImages(images, np.full(12, 2, np.int32), (), "shades"), "whole")
    task = pool.tasks(VARIANTS["future_proof"])[0]
    parts = [Part(whole(task.rows), REAL), Part(whole(task.auxiliary), OTHER)]
    mesh = meshes.training_mesh(runs, batch_size=BATCH)
    totals = loop.train(
        loop.program(weigh),
        (),
        jnp.zeros(runs, jnp.int32),
        pool.batches(task, parts, STEPS, mesh),
        [parts] * runs,
        jnp.stack([keys.root_key(0)] * runs),
        steps=STEPS,
        chunk=CHUNK,
        mesh=mesh,
    )
    here = np.concatenate([np.asarray(shard.data) for shard in totals.addressable_shards])
    return here, np.array(read), meshes.places_here(mesh, BATCH)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    for split in ("train", "test"):
        for label, name in enumerate(("ant", "bee", "cat", "dog")):
            (root / split / name).mkdir(parents=True)
            for n in range(40):
                Image.fromarray(np.full((SIDE, SIDE, 3), 60 * label + n, np.uint8)).save(
                    root / split / name / f"{n:02}.png"
                )
    return root


@pytest.mark.parametrize("runs", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_two_processes_train_on_the_batches_of_one_and_read_what_their_devices_hold(folder, runs, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    environment = os.environ | {
        "XLA_FLAGS": os.environ["XLA_FLAGS"].replace("device_count=4", "device_count=2"),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, str(folder), str(tmp_path), address, str(index), str(runs)],
            env=environment,
        )
        for index in range(2)
    ]
    alone, read, places = train(folder, runs)
    assert places == range(BATCH)
    assert (alone == alone[0]).all()
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    found = [np.load(tmp_path / f"{index}.npz") for index in range(2)]
    for one in found:
        assert one["totals"].tolist() == [alone[0]] * len(one["totals"])
    halves = [one["places"].tolist() for one in found]
    if runs == 1:  # the images of a batch are spread over the processes
        assert halves == [[0, 4], [4, 8]]
        together = [len(one["read"]) for one in found]
        assert max(together) < 0.8 * len(read)
    else:  # each process has a run, which sees whole batches
        assert halves == [[0, 8], [0, 8]]


if __name__ == "__main__":
    images, out, address, index, runs = sys.argv[1:]
    jax.distributed.initialize(address, 2, int(index))
    totals, read, places = train(pathlib.Path(images), int(runs))
    np.savez(pathlib.Path(out) / f"{index}.npz", totals=totals, read=read, places=[places.start, places.stop])
