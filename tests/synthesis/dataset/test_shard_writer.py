"""Writing beside drawing."""

import itertools
import threading
import time

import pytest

from jaxcil.synthesis.dataset.shard_writer import ShardWriter


def test_shards_get_their_images_in_order_in_a_thread_of_their_own():
    written, threads = {}, set()

    def write(shard, images):
        threads.add(threading.get_ident())
        written[shard] = list(itertools.islice(images, 3))

    with ShardWriter(write, most=2) as writer:
        for shard in (4, 7):
            for image in range(3):
                writer.give(shard, 10 * shard + image)
        writer.wait(4)
        assert written[4] == [40, 41, 42]
        writer.wait(7)
        assert written[7] == [70, 71, 72]
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_who_draws_too_fast_is_held_up():
    disk, given = threading.Event(), []

    def write(shard, images):
        disk.wait()
        list(itertools.islice(images, 10))

    def draw():
        for image in range(10):
            writer.give(0, image)
            given.append(image)

    with ShardWriter(write, most=3) as writer:
        drawing = threading.Thread(target=draw)
        drawing.start()
        while len(given) < 3:
            time.sleep(0.001)
        time.sleep(0.05)
        assert len(given) == 3  # the fourth waits
        disk.set()
        drawing.join()
        writer.wait(0)
    assert len(given) == 10


@pytest.mark.parametrize("at", [0, 2])
def test_what_a_write_raises_is_raised_where_images_are_given(at):
    def write(shard, images):
        list(itertools.islice(images, at))
        raise OSError("disk full")

    def draw():
        with ShardWriter(write, most=2) as writer:
            for image in itertools.count():
                writer.give(0, image)

    with pytest.raises(OSError, match="disk full"):
        draw()


def test_what_a_write_raises_is_raised_where_a_shard_is_waited_for():
    def write(shard, images):
        next(images)
        raise OSError("disk full")

    def draw():
        with ShardWriter(write, most=2) as writer:
            writer.give(0, 1)
            writer.wait(0)

    with pytest.raises(OSError, match="disk full"):
        draw()


def test_an_interrupt_ends_the_thread_and_leaves_whole_shards_alone():
    whole, cleaned = [], []

    def write(shard, images):
        try:
            whole.append((shard, list(itertools.islice(images, 2))))
        finally:
            cleaned.append(shard)

    def draw():
        with ShardWriter(write, most=4) as writer:
            for shard, image in ((0, 1), (0, 2), (1, 3)):
                writer.give(shard, image)
            raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        draw()
    assert whole == [(0, [1, 2])]
    assert cleaned in ([0, 1], [0])  # the second may not have begun
    assert threading.active_count() == before
