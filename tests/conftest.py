"""Strict JAX for every test, on four virtual CPU devices.

NPROC widens XLA's thread pool: with more virtual devices than cores, queued collectives wait for threads
that never come (jax 0.10 and 0.11 hang). Tests compile far longer than they run, so the compiler is told not to
optimise. No test asks the Hugging Face hub. All of it must be set before jax is imported.
"""

import os

os.environ["NPROC"] = "16"
os.environ["XLA_FLAGS"] = " ".join(
    (
        os.environ.get("XLA_FLAGS", ""),
        "--xla_force_host_platform_device_count=4",
        "--xla_backend_optimization_level=0",
    )
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["HF_HUB_OFFLINE"] = "1"

import pathlib
import tempfile

import jax
import numpy as np
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")
# What several functions, tests or commands of this process would compile, each for itself, is compiled once. Processes
# do not share the folder: jax writes an entry in place, and another could read half of it.
_programs = tempfile.TemporaryDirectory(prefix="jaxcil-programs-")
jax.config.update("jax_compilation_cache_dir", _programs.name)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_raise_persistent_cache_errors", True)


# Files of a minute or so each come first, or one worker would end long after the other
LONGEST = (
    "test_kill_training.py",
    "test_kill.py",
    "test_generate_kills.py",
    "test_experiment.py",
    "test_objectives.py",
    "test_pipeline.py",
    "test_generation.py",
    "test_readme.py",
)


def pytest_configure(config):
    config.option.loadscopereorder = False  # xdist would put files of many tests first


def pytest_unconfigure():
    _programs.cleanup()


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in LONGEST)
    if not os.environ.get("JAXCIL_SLOW"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="takes minutes or gigabytes: set JAXCIL_SLOW=1"))


@pytest.fixture
def x64():
    """Float64 for one test."""
    with jax.enable_x64(True):
        yield


@pytest.fixture
def strict_dtypes():
    """Refuses implicit mixing of dtypes, as the tests of solvers, heads and losses ask."""
    with jax.numpy_dtype_promotion("strict"):
        yield


@pytest.fixture
def golden():
    """Reads a small golden file that is stored beside the tests: `golden("er_sde/ve3_phi7_edm10.npz")`."""
    root = pathlib.Path(__file__).parent / "golden"

    def read(name: str) -> dict[str, np.ndarray]:
        with np.load(root / name) as file:
            return dict(file)

    return read


@pytest.fixture
def full_golden():
    """The folder of all golden arrays; the test is skipped where it is absent."""
    folder = os.environ.get("JAXCIL_GOLDEN")
    if not folder or not pathlib.Path(folder).is_dir():
        pytest.skip("JAXCIL_GOLDEN does not name the folder of the full golden arrays")
    return pathlib.Path(folder)
