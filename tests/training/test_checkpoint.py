"""States survive damage, kills and full disks: the one before is used, and what is wrong is named."""

import resource
import shutil
import subprocess

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from jaxcil.errors import InputError
from jaxcil.training.checkpoint import SUMS, Checkpoints

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


def tree(number):
    """On the device and on the host, one leaf of a dtype that numpy lacks."""
    return {
        "weights": jnp.arange(6, dtype=jnp.float32).reshape(2, 3) + number,
        "measured": np.full((2, 2), np.nan) if number == 1 else np.full((2, 2), 0.1 * number),
        "half": jnp.full(3, number, jnp.bfloat16),
    }


def like(cursor=None):
    return {
        "weights": jnp.zeros((2, 3)),
        "measured": np.zeros((2, 2)),
        "half": jnp.zeros(3, jnp.bfloat16),
    }


@pytest.fixture(scope="module")
def two_states(tmp_path_factory):
    """A directory after three saves; tests copy it."""
    directory = tmp_path_factory.mktemp("states")
    with Checkpoints(directory) as checkpoints:
        for number in (1, 2, 3):
            checkpoints.save(number, tree(number), {"task": number, "phase": "training"})
    return directory


@pytest.fixture
def states(two_states, tmp_path):
    return shutil.copytree(two_states, tmp_path / "states")


def resumed(directory):
    with Checkpoints(directory) as checkpoints:
        return checkpoints.resume(like)


def assert_is(saved, number):
    assert saved.number == number
    assert saved.cursor == {"task": number, "phase": "training"}
    for name, leaf in tree(number).items():
        assert saved.tree[name].dtype == leaf.dtype
        np.testing.assert_array_equal(np.asarray(saved.tree[name]), np.asarray(leaf))
    assert isinstance(saved.tree["measured"], np.ndarray)
    assert saved.tree["half"].dtype == ml_dtypes.bfloat16


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_two_states_are_kept_and_the_newest_comes_back_with_its_cursor(states, capsys):
    assert names(states) == ["2", "3"]
    assert_is(resumed(states), 3)
    with Checkpoints(states) as checkpoints:
        assert checkpoints.done == 3
        number, restored = checkpoints.restore(like())
    assert number == 3
    np.testing.assert_array_equal(restored["measured"], tree(3)["measured"])
    assert capsys.readouterr().err == ""


def test_the_structure_may_depend_on_the_cursor(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, [jnp.zeros(2)] * 3, {"leaves": 3})
        checkpoints.save(2, [jnp.zeros(2)] * 5, {"leaves": 5})
        saved = checkpoints.resume(lambda cursor: [jnp.ones(2)] * cursor["leaves"])
    assert len(saved.tree) == 5


def test_without_a_state_there_is_none(tmp_path):
    with Checkpoints(tmp_path / "new") as checkpoints:
        assert checkpoints.done == 0
        assert checkpoints.restore(like()) is None
        assert checkpoints.resume(like) is None


def test_sha256sum_checks_a_state(states):
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", SUMS], cwd=states / "3", check=True)


def flipped(content):
    return content[:-2] + bytes([content[-2] ^ 4]) + content[-1:]


@pytest.mark.parametrize(
    "changed",
    [flipped, lambda content: content[: len(content) // 2], lambda content: b"", None],
    ids=["bit", "cut", "empty", "gone"],
)
def test_whatever_file_of_the_newest_state_is_damaged_the_one_before_is_used(
    changed, two_states, tmp_path, capsys
):
    paths = [path.relative_to(two_states) for path in (two_states / "3").rglob("*") if path.is_file()]
    assert len(paths) > 10
    for count, path in enumerate(paths):
        states = shutil.copytree(two_states, tmp_path / str(count))
        if changed is None:
            (states / path).unlink()
        else:
            (states / path).write_bytes(changed((states / path).read_bytes()))
        with Checkpoints(states) as checkpoints:
            assert checkpoints.done == 2
        error = capsys.readouterr().err
        assert error.startswith(f"jaxcil: {states}/3 is damaged (")
        assert (SUMS if path.name == SUMS else path.relative_to("3").as_posix()) in error
        assert error.endswith(f": removed; work resumes from the state before it, {states}/2\n")
        assert names(states) == ["2"]
    assert_is(resumed(states), 2)
    assert capsys.readouterr().err == ""  # said once


@pytest.mark.parametrize("folder", ["state", "about"])
def test_a_state_without_one_of_its_folders_is_damaged(folder, states, capsys):
    shutil.rmtree(states / "3" / folder)
    assert_is(resumed(states), 2)
    assert f"{states}/3 is damaged ('{folder}/" in capsys.readouterr().err


def test_work_that_fell_back_saves_the_lost_number_again(states):
    (states / "3" / "state" / "manifest.ocdbt").write_bytes(b"")
    with Checkpoints(states) as checkpoints:
        assert checkpoints.resume(like).number == 2
        checkpoints.save(3, tree(3), {"task": 3, "phase": "training"})
    assert names(states) == ["2", "3"]
    assert_is(resumed(states), 3)


def test_where_no_state_is_whole_work_starts_again_and_both_are_named(states, capsys):
    for number in ("2", "3"):
        (states / number / SUMS).unlink()
    assert resumed(states) is None
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{states}/3 is damaged" in line
    assert f"{states}/2 is damaged" in line
    assert line.endswith("work starts again from the beginning, since no other state is left")


def test_what_a_killed_process_left_of_a_state_is_removed(states, capsys):
    shutil.copytree(states / "3", states / "4.orbax-checkpoint-tmp")
    assert_is(resumed(states), 3)
    assert names(states) == ["2", "3"]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("leaf", "message"),
    [
        (jnp.zeros((2, 3), jnp.float16), r"\['weights'\] expected float16\[2, 3\], got float32\[2, 3\]"),
        (jnp.zeros((3, 3)), r"\['weights'\] expected float32\[3, 3\], got float32\[2, 3\]"),
        ([jnp.zeros(2)], r"\['weights'\]\[0\] expected float32\[2\], got nothing"),
    ],
    ids=["dtype", "shape", "leaves"],
)
def test_a_state_of_another_structure_is_refused_and_not_cast(leaf, message, states):
    with Checkpoints(states) as checkpoints, pytest.raises(ValueError, match=message):
        checkpoints.restore({**like(), "weights": leaf})
    assert names(states) == ["2", "3"]


def large(number):
    return {
        "weights": np.random.default_rng(number).random(20_000)
    }  # 160 kB that no compression makes smaller


def assert_keeps_its_state(directory, capsys):
    """What was written stays and there is no rubbish; nor tracebacks of Orbax's threads."""
    assert names(directory) == ["1"]
    assert "Traceback" not in capsys.readouterr().err
    with Checkpoints(directory) as checkpoints:
        assert checkpoints.done == 1
        checkpoints.save(2, large(2))
        np.testing.assert_array_equal(checkpoints.restore(large(0))[1]["weights"], large(2)["weights"])


def test_a_full_disk_is_reported_and_saving_resumes_once_there_is_room(tmp_path, capsys):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=350k", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system takes root's rights")
    try:
        with Checkpoints(disk / "states") as checkpoints:
            checkpoints.save(1, large(1))
            with pytest.raises(
                InputError, match=r"/2 cannot be written: No space left on device. Free space"
            ):
                checkpoints.save(2, large(2))
        subprocess.run(["mount", "-o", "remount,size=4m", disk], check=True)
        assert_keeps_its_state(disk / "states", capsys)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_limit_on_the_size_of_files_is_reported(tmp_path, capsys):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, large(1))
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))
        try:
            with pytest.raises(InputError, match=r"/2 cannot be written: File too large. Allow larger files"):
                checkpoints.save(2, large(2))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert_keeps_its_state(tmp_path, capsys)
