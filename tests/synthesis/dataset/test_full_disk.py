"""A disk that is full, or takes no large files: a message, nothing half-written, the same set once there is room."""

import pathlib
import resource
import subprocess

import jax
import numpy as np
import pytest

from jaxcil.errors import InputError
from jaxcil.synthesis.dataset import store
from jaxcil.synthesis.dataset.manifest import Asked, begin
from jaxcil.synthesis.drawing import generate

SIDE = 64
CONFIG = {
    "plan": {"keep": [0.5]},
    "templates": ["a {}"],
    "guidance_scale": 2.0,
    "seed": 3,
    "image_size": [SIDE, SIDE],
    "batch_size": 8,
    "shard_size": 8,
}


def draw(ids, keys, scales):
    return jax.vmap(lambda key: jax.random.uniform(key, (SIDE, SIDE, 3), minval=-1))(keys)


def make(directory):
    manifest = begin(directory, Asked(CONFIG, ("cat", "dog"), 20))
    tokenize = lambda texts: np.zeros((len(texts), 1), np.int32)  # noqa: E731
    generate.fill(directory, manifest, draw, tokenize, batch=8)
    store.finish(directory, manifest)


def contents(directory):
    return {
        path.name: path.read_bytes() for path in sorted(pathlib.Path(directory).iterdir()) if path.is_file()
    }


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    directory = tmp_path_factory.mktemp("finished")
    make(directory)
    return directory


def check(there, finished):
    """What stands is whole, and there is nothing else."""
    for name, data in contents(there).items():
        assert not name.startswith(".")
        assert data == contents(finished)[name]
    assert "dataset_info.json" not in contents(there)


def test_a_full_disk_is_told_and_the_set_completes_once_there_is_room(finished, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system takes root's rights")
    try:
        with pytest.raises(
            InputError, match=r"cannot be written: No space left on device. Free space, then start"
        ):
            make(disk)
        check(disk, finished)
        assert len(contents(disk)) > 3  # a shard, its sidecar and the manifest
        subprocess.run(["mount", "-o", "remount,size=4m", disk], check=True)
        make(disk)
        assert contents(disk) == contents(finished)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_files_that_may_not_be_large_are_told(finished, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))  # bytes; a shard has 100,000
    try:
        with pytest.raises(
            InputError, match=r"record-00000 cannot be written: File too large. Allow larger files"
        ):
            make(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    check(tmp_path, finished)
    make(tmp_path)
    assert contents(tmp_path) == contents(finished)
