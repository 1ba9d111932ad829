"""Strict JAX for every test, on four virtual CPU devices.

NPROC widens XLA's thread pool: with more virtual devices than cores, queued collectives wait for threads
that never come (jax 0.10 and 0.11 hang). Tests compile far longer than they run, so the compiler does not optimise.
No test asks the Hugging Face hub. All of it must be set before jax is imported.

Compiled programs are kept from run to run in .cache/tests. jax writes an entry in place, and another process could read
half of it; so each process works in folders of its own, which begin with hard links to what is kept, and at its end
links into the kept folder what is new and whole. A process that is killed leaves a folder that nobody reads.
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

import contextlib
import gc
import importlib.util
import pathlib
import shutil
import sys
import tempfile
import time

import jax
import numpy as np
import pytest
from jax._src.compilation_cache import decompress_executable

jax.config.update("jax_numpy_rank_promotion", "raise")
KEPT = pathlib.Path(__file__).parents[1] / ".cache" / "tests"
DAYS = 14  # that a program is kept: those of older code are not read again


def begin_programs(kept: pathlib.Path) -> pathlib.Path:
    """A new folder of programs that begins with those in `kept`/programs."""
    (kept / "programs").mkdir(parents=True, exist_ok=True)
    for path in (*kept.glob("own-*"), *kept.glob("programs/*")):
        with contextlib.suppress(FileNotFoundError):  # another process removes it too
            if time.time() - path.stat().st_mtime > DAYS * 86400:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    own = pathlib.Path(tempfile.mkdtemp(prefix="own-", dir=kept))
    for path in kept.glob("programs/*"):
        with contextlib.suppress(FileNotFoundError):
            os.link(path, own / path.name)
    return own


def keep_programs(own: pathlib.Path, kept: pathlib.Path) -> None:
    """Links what is new in a folder into `kept`/programs, except entries that were cut off, and removes the folder."""
    for path in own.glob("*-cache"):
        target = kept / "programs" / path.name
        if target.exists():
            continue
        try:
            decompress_executable(path.read_bytes())
        except Exception:  # each compressor has its own
            continue
        with contextlib.suppress(FileExistsError):
            os.link(path, target)
    shutil.rmtree(own)


def pytest_configure(config):
    config.option.loadscopereorder = False  # xdist would put files of many tests first
    if getattr(config.option, "numprocesses", None) and not hasattr(config, "workerinput"):
        return  # xdist's workers run the tests
    config.programs = begin_programs(KEPT), begin_programs(KEPT)
    jax.config.update("jax_compilation_cache_dir", str(config.programs[0]))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update(
        "jax_persistent_cache_enable_xla_caches", "none"
    )  # their path would be part of every key
    jax.config.update("jax_raise_persistent_cache_errors", True)
    # Processes that tests start, and kill, share the other one
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(config.programs[1])
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES"] = "none"


def pytest_unconfigure(config):
    for own in getattr(config, "programs", ()):
        keep_programs(own, KEPT)


MAPS = pathlib.Path("/proc/self/maps")
MOST_MAPS = (
    20_000  # Linux allows a process 65,530, and every compiled program takes some; LLVM crashes without
)


def pytest_runtest_teardown(item, nextitem):
    """Forgets compiled programs between two files, once there are many."""
    if (nextitem is None or nextitem.path != item.path) and MAPS.exists():
        with MAPS.open() as maps:
            if sum(1 for _ in maps) > MOST_MAPS:
                jax.clear_caches()
                gc.collect()


# Files of a minute or so each come first, or one worker would end long after the other
LONGEST = (
    "test_every_learner.py",
    "test_trajectories.py",
    "test_growth.py",
    "test_kill.py",
    "test_generate_kills.py",
    "test_flops.py",
    "test_run.py",
    "test_trained_learners.py",
    "test_interruption.py",
    "test_pipeline.py",
    "test_objectives.py",
    "test_outside_learner.py",
    "test_generation.py",
)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))
    if not os.environ.get("JAXCIL_SLOW"):
        for item in items:
            if item.get_closest_marker("slow"):
                item.add_marker(pytest.mark.skip(reason="takes minutes or gigabytes: set JAXCIL_SLOW=1"))


@pytest.fixture
def programs():
    """The functions that begin a folder of compiled programs and keep what is new in it."""
    return begin_programs, keep_programs


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


@pytest.fixture(scope="session")
def small_run():
    """The `SmallRun` of small_run.py that the tests of a process share."""
    spec = importlib.util.spec_from_file_location(
        "small_run", pathlib.Path(__file__).with_name("small_run.py")
    )
    module = sys.modules["small_run"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.SmallRun()


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
