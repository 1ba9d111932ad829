"""Several processes in one directory; here they are threads and open files, which locks keep apart just as well."""

import errno
import fcntl
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

from jaxcil.errors import InputError
from jaxcil.synthesis.dataset import sharing, store
from jaxcil.synthesis.dataset.manifest import Asked, begin, join
from jaxcil.synthesis.dataset.sharing import Leases, Worker, admitted, finishes, finishing, this_worker
from jaxcil.synthesis.drawing import generate
from jaxcil.workdir import locks
from jaxcil.workdir.record import locked

CONFIG = {
    "plan": {"keep": [0.5]},
    "templates": ["a {}"],
    "guidance_scale": 2.0,
    "seed": 3,
    "image_size": [4, 6],
    "batch_size": 4,
    "shard_size": 4,
}
CLASSES = ("cat", "dog")


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(sharing, "SECONDS_FOR_BEGINNING", 0.3)
    monkeypatch.setattr(sharing, "SECONDS_FOR_WORKER_0", 0.3)


def tokenize(texts):
    return np.array([[len(text)] for text in texts], np.int32)


def noise(ids, keys, scales):
    return jax.vmap(lambda key: jax.random.uniform(key, (4, 6, 3), minval=-1))(keys)


def started(directory, config=CONFIG, class_names=CLASSES, images_per_class=10):
    directory.mkdir(exist_ok=True)
    return begin(directory, Asked(config, class_names, images_per_class))


def fill(directory, manifest, worker=None, draw=noise, batch=4):
    generate.fill(directory, manifest, draw, tokenize, batch=batch, worker=worker)


def come(directory, worker=None, config=CONFIG, class_names=CLASSES, images_per_class=10):
    """Asks to be admitted to draw a set of that config."""
    asked = Asked(config, class_names, images_per_class)
    directory.mkdir(exist_ok=True)
    return admitted(
        directory,
        worker,
        lambda: begin(directory, asked),
        lambda: join(directory, asked),
    )


def identity(path):
    """Of a file: changes when it is written again."""
    return path.stat().st_ino, path.stat().st_mtime_ns


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """2 classes of 10 images in 5 shards, by one process; tests only read it."""
    directory = tmp_path_factory.mktemp("finished")
    manifest = started(directory)
    fill(directory, manifest)
    store.finish(directory, manifest)
    return directory


def watched(drawn):
    """The drawing of a process, which notes the key of each image."""

    def draw(ids, keys, scales):
        drawn.extend(map(tuple, np.asarray(jax.random.key_data(keys)).tolist()))
        time.sleep(0.02)
        return noise(ids, keys, scales)

    return draw


def test_processes_draw_each_image_once_and_end_in_the_files_of_one(finished, tmp_path, contents):
    manifest, drawn = started(tmp_path), ([], [], [])
    with ThreadPoolExecutor() as pool:
        jobs = [pool.submit(fill, tmp_path, manifest, None, watched(log)) for log in drawn]
        for job in jobs:
            job.result()
    assert sorted(map(len, drawn))[-2] > 0  # one alone did not do it all
    assert len({*drawn[0], *drawn[1], *drawn[2]}) == sum(map(len, drawn)) == 20
    store.finish(tmp_path, manifest)
    assert contents(tmp_path) == contents(finished)


@pytest.mark.parametrize("batch", [1, 3, 4, 8])
def test_no_shard_is_begun_before_the_last_one_stands(batch, tmp_path):
    # What a kill costs: the shard in hand, and the rest of a batch that crosses its end.
    manifest, drawn = started(tmp_path), []

    def draw(ids, keys, scales):
        standing = 20 - 4 * len(store.missing_shards(tmp_path, manifest))
        drawn.extend(ids)
        assert len(drawn) - standing <= max(4, batch) + (batch - 1 if 4 % batch else 0)
        return noise(ids, keys, scales)

    fill(tmp_path, manifest, draw=draw, batch=batch)
    assert store.missing_shards(tmp_path, manifest) == []


def test_a_shard_that_another_process_has_is_left_to_it_until_it_gives_it_back(finished, tmp_path, contents):
    manifest = started(tmp_path)
    with Leases(tmp_path, None) as other:
        assert other.acquire(2)
        fill(tmp_path, manifest)
        assert store.missing_shards(tmp_path, manifest) == [2]
        before = identity(store.shard_path(tmp_path, 1))
    fill(tmp_path, manifest)
    store.finish(tmp_path, manifest)
    assert contents(tmp_path) == contents(finished)
    assert identity(store.shard_path(tmp_path, 1)) == before


def test_what_another_process_lost_in_the_meantime_is_taken_up(tmp_path):
    manifest, other = started(tmp_path), Leases(tmp_path, None)
    assert other.acquire(0)
    calls = iter(range(2))

    def draw(ids, keys, scales):
        if next(calls, None) is None:  # the other process is killed now, long after shard 0 had its turn
            other.__exit__()
        return noise(ids, keys, scales)

    fill(tmp_path, manifest, draw=draw)
    assert store.missing_shards(tmp_path, manifest) == []


def test_a_lease_is_had_by_one_and_a_deleted_one_by_nobody(tmp_path):
    with Leases(tmp_path, None) as one, Leases(tmp_path, None) as two:
        assert one.acquire(0)
        assert not two.acquire(0)
        assert not one.acquire(0)
        waiting = locks.opened(store.lease_path(tmp_path, 0))  # opened before it is given back
        one.release(0)
        assert two.acquire(0)
        assert locks.acquire(waiting)
        assert not locks.is_current(waiting, store.lease_path(tmp_path, 0))
        waiting.close()
    assert [*tmp_path.iterdir()] == []


def test_workers_are_kept_apart_and_a_process_without_a_number_makes_the_rest(finished, tmp_path, contents):
    manifest = started(tmp_path)
    fill(tmp_path, manifest, Worker(1, 2))
    assert store.missing_shards(tmp_path, manifest) == [0, 2, 4]
    fill(tmp_path, manifest, Worker(2, 3))
    assert store.missing_shards(tmp_path, manifest) == [0, 4]
    fill(tmp_path, manifest)
    store.finish(tmp_path, manifest)
    assert contents(tmp_path) == contents(finished)


def test_where_there_are_no_locks_a_number_is_asked_for_and_is_enough(
    finished, tmp_path, monkeypatch, contents
):
    def none(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", none)
    with (
        pytest.raises(InputError, match=r"no locks. Number the processes: --config.worker=0/2"),
        come(tmp_path),
    ):
        pass
    for worker in (Worker(0, 2), Worker(1, 2)):
        with come(tmp_path, worker) as manifest:
            fill(tmp_path, manifest, worker)
    assert not finishes(tmp_path, Worker(1, 2))  # two that finish at once would meet in the same files
    assert finishes(tmp_path, Worker(0, 2))
    with finishing(tmp_path, Worker(0, 2)):
        store.finish(tmp_path, manifest)
    (tmp_path / ".lock").unlink()
    assert contents(tmp_path) == contents(finished)


@pytest.mark.parametrize("text", ["1", "2/2", "-1/2", "a/b", "1/", "0/0"])
def test_what_is_no_worker_is_refused(text):
    with pytest.raises(InputError, match=r"worker must be i/n with 0 <= i < n"):
        this_worker(text)


def test_the_number_of_a_process_is_given_or_that_of_its_job(monkeypatch):
    assert this_worker("1/3") == Worker(1, 3)
    assert this_worker(None) is None
    monkeypatch.setattr(jax, "process_index", lambda: 2)
    monkeypatch.setattr(jax, "process_count", lambda: 4)
    assert this_worker(None) == Worker(2, 4)


def test_the_same_command_is_admitted_beside_one_that_draws_and_writes_nothing(tmp_path):
    with come(tmp_path) as manifest:
        before = identity(tmp_path / "manifest.json")
        with come(tmp_path) as joined:
            assert joined == manifest
        assert identity(tmp_path / "manifest.json") == before


def test_many_that_begin_at_once_begin_one_set(tmp_path, monkeypatch):
    monkeypatch.setattr(sharing, "SECONDS_FOR_BEGINNING", 60)
    together = threading.Barrier(6)

    def comes(number):
        together.wait()
        with come(tmp_path) as manifest:
            return manifest

    with ThreadPoolExecutor(6) as pool:
        assert len({manifest.config_hash for manifest in pool.map(comes, range(6))}) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images_per_class": 11}, "asks for another or a larger set. Run again when they have ended"),
        ({"class_names": ("cat", "dog", "eel")}, "asks for another or a larger set"),
        ({"config": CONFIG | {"seed": 4}}, "seed: there 3, now 4"),
    ],
    ids=["images", "classes", "seed"],
)
def test_a_set_that_others_draw_is_not_extended_and_they_are_named(change, message, tmp_path, contents):
    with come(tmp_path) as manifest, Leases(tmp_path, None) as leases:
        before = contents(tmp_path)
        leases.acquire(0)
        store.shard_path(tmp_path, 1).write_bytes(b"one shard is there")
        with pytest.raises(InputError, match=message) as told, come(tmp_path, **change):
            pass
        assert ("process" in str(told.value)) == ("seed" not in message)
        leases.release(0)
        store.shard_path(tmp_path, 1).unlink()
        assert contents(tmp_path) == before
    with come(tmp_path, **change) as after:
        assert after != manifest


def test_a_repair_and_those_who_draw_keep_each_other_out_and_say_who_it_is(tmp_path):
    with come(tmp_path), Leases(tmp_path, None) as leases:
        leases.acquire(3)
        with (
            pytest.raises(
                InputError, match=r"another process works in .* \(process \d+ on .*\); wait for it"
            ),
            locked(tmp_path),
        ):
            pass
    with (
        locked(tmp_path, "verify --repair"),
        pytest.raises(InputError, match=r"has exclusive use of .* \(process \d+ on .*, verify --repair\)"),
        come(tmp_path),
    ):
        pass
    with come(tmp_path):
        assert (tmp_path / ".lock").read_text() == ""


def test_what_a_killed_repair_said_of_itself_is_forgotten(tmp_path):
    (tmp_path / ".lock").write_text("process 1 on mars, verify --repair")
    with come(tmp_path):
        assert (tmp_path / ".lock").read_text() == ""


def test_other_workers_wait_for_worker_0_to_begin(tmp_path, capsys, monkeypatch):
    with (
        pytest.raises(
            InputError, match=r"worker 0 has not begun .* in 0.3 s. Start it .* --config.worker=0/2"
        ),
        come(tmp_path, Worker(1, 2)),
    ):
        pass
    monkeypatch.setattr(sharing, "SECONDS_FOR_WORKER_0", 60)

    def waits():
        with come(tmp_path, Worker(1, 2), images_per_class=12) as manifest:
            return manifest

    started(tmp_path)  # the set is there, and is to be extended
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(waits)
        while capsys.readouterr().err.count("waiting for worker 0") < 1:
            time.sleep(0.01)
        with come(tmp_path, Worker(0, 2), images_per_class=12) as manifest:
            assert waiting.result() == manifest
    assert manifest.requests.total == 24


def test_finishing_is_done_by_one_at_a_time_and_takes_away_what_kills_left(finished, tmp_path, contents):
    manifest = started(tmp_path)
    fill(tmp_path, manifest)
    for path in (store.lease_path(tmp_path, 1), tmp_path / ".README.md.aside", tmp_path / ".finishing.lease"):
        path.write_text("left")
    inside = []

    def finishes(number):
        with finishing(tmp_path, None):
            inside.append(number)
            store.finish(tmp_path, manifest)
            assert inside[-1] == number

    with ThreadPoolExecutor(4) as pool:
        assert [*pool.map(finishes, range(4))] == [None] * 4
    assert contents(tmp_path) == contents(finished)
