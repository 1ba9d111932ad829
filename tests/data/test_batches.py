"""Batches: every row once an epoch, as a function of key and step number."""

import jax
import numpy as np
import pytest

from jaxcil import keys
from jaxcil.data import batches
from jaxcil.data.augmentation import augmentation

ROWS = np.array([3, 5, 7, 11, 13, 17, 19, -1, -1], np.int32)


def test_an_epoch_shows_every_row_at_most_once_and_no_padding():
    drawn = batches.schedule(jax.random.key(0), ROWS, 2, 0, 3)
    assert drawn.shape == (3, 2)
    assert len(np.unique(drawn)) == 6
    assert set(drawn.ravel()) <= set(ROWS[:7])


def test_epochs_differ_and_every_row_comes_in_the_long_run():
    drawn = batches.schedule(jax.random.key(0), ROWS, 7, 0, 2)
    assert drawn[0].tolist() != drawn[1].tolist()
    assert sorted(drawn[0]) == sorted(drawn[1]) == ROWS[:7].tolist()


def test_a_schedule_does_not_depend_on_where_it_is_begun():
    whole = batches.schedule(jax.random.key(1), ROWS, 3, 0, 10)
    np.testing.assert_array_equal(batches.schedule(jax.random.key(1), ROWS, 3, 4, 6), whole[4:])


def test_padding_does_not_change_the_rows_that_come():
    drawn = batches.schedule(jax.random.key(1), np.array([2, 4], np.int32), 5, 0, 4)
    assert set(drawn.ravel()) == {2, 4}  # fewer rows than a batch holds: they repeat


def test_batches_do_not_depend_on_the_default_kind_of_keys():
    key = keys.root_key(3)
    expected = batches.schedule(key, ROWS, 4, 0, 3)
    batches._epoch.cache_clear()
    with jax.default_prng_impl("rbg"):
        np.testing.assert_array_equal(batches.schedule(key, ROWS, 4, 0, 3), expected)


def test_keys_give_different_orders():
    one, other = (batches.schedule(jax.random.key(seed), ROWS, 7, 0, 1) for seed in (0, 1))
    assert one.tolist() != other.tolist()


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="at least one row"):
        batches.schedule(jax.random.key(0), np.array([-1], np.int32), 2, 0, 1)


def test_floats_of_images_cover_minus_one_to_one():
    np.testing.assert_allclose(augmentation.to_float(np.array([0, 255], np.uint8)), [-1, 1])


def test_a_shift_moves_the_image_by_at_most_its_pixels_and_repeats_the_border():
    image = np.zeros((1, 9, 9, 1), np.float32)
    image[0, 4, 4] = 1
    seen = set()
    for seed in range(60):
        shifted = np.asarray(augmentation.random_shift(jax.random.key(seed), image, 1))[0, :, :, 0]
        assert shifted.sum() == 1
        seen.add(tuple(int(place) for place in np.argwhere(shifted)[0] - 4))
    # 60 draws of 9 equally likely places miss one with probability below 0.8 percent; the keys are fixed
    assert seen == {(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1)}
    ramp = np.broadcast_to(np.arange(5, dtype=np.float32)[None, :, None, None], (1, 5, 5, 1))
    assert np.asarray(augmentation.random_shift(jax.random.key(0), ramp, 2)).min() >= 0


def test_a_mixed_batch_has_a_fixed_number_of_each_part_and_the_first_part_as_it_comes_alone():
    key, parts = jax.random.key(0), (np.arange(6, dtype=np.int32), np.arange(10, 14, dtype=np.int32))
    mixed = batches.mixed_schedule(key, parts, (3, 2), 0, 4)
    np.testing.assert_array_equal(mixed[:, :3], batches.schedule(key, parts[0], 3, 0, 4))
    assert (mixed[:, 3:] >= 10).all()
    assert sorted(mixed[:2, 3:].ravel()) == [10, 11, 12, 13]  # an epoch of the smaller part
    np.testing.assert_array_equal(batches.mixed_schedule(key, parts, (3, 2), 2, 2), mixed[2:])
