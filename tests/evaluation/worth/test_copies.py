"""Copies are found where they were planted, and nowhere else."""

import numpy as np
import pytest

from jaxcil.evaluation.worth.copies import PERCENTILES, FeaturedImages, _close, copies

NEAR = 8.0


def featured(images):
    return FeaturedImages(
        images, np.zeros(len(images), np.int32), images.reshape(len(images), -1).astype(np.float32)
    )


def noise(count, seed):
    # images of 48 entries; two of them are some 100 grey levels apart, and never within 40
    return np.random.default_rng(seed).integers(0, 256, (count, 4, 4, 3)).astype(np.uint8)


def found_in(synthetic, seen=None):
    parts = {
        "synthetic": featured(synthetic),
        "real_train": featured(noise(60, 1)),
        "real_test": featured(noise(60, 2)),
        "seen": featured(noise(60, 1) if seen is None else seen),
    }
    drawn = {name: parts[name].features[:30] for name in ("synthetic", "real_test")}
    return copies(parts, drawn, NEAR)


def test_planted_copies_within_a_set_are_counted_and_nothing_else():
    images = noise(40, 3)
    planted = np.concatenate(
        [images, images[:3], images[5:7] ^ 4]
    )  # exact; 4 grey levels away at every entry
    clean, within = (found_in(data)["within"]["synthetic"] for data in (images, planted))
    assert (clean["exact"], clean["near"]) == (0, 0)
    # each copy and its original
    assert (within["exact"], within["near"]) == (3, pytest.approx(2 * 5 / 45))


def test_planted_copies_of_images_seen_are_counted_and_listed_first():
    seen, images = noise(60, 1), noise(40, 3)
    images[[4, 9]] = seen[[10, 20]]
    images[7] = seen[30] ^ 4
    found = found_in(images, seen)
    of_seen = found["of_seen"]["synthetic"]
    assert (of_seen["exact"], of_seen["near"]) == (2, pytest.approx(3 / 40))
    pairs = [(pair["synthetic"], pair["seen"], pair["distance"]) for pair in found["closest"][:3]]
    assert pairs == [(4, 10, 0.0), (9, 20, 0.0), (7, 30, pytest.approx(4.0))]
    assert found["closest"][3]["distance"] > NEAR
    assert found["of_seen"]["real_test"]["exact"] == found["of_seen"]["real_test"]["near"] == 0


def test_a_copying_generator_is_recognised_as_one():
    seen = noise(60, 1)
    jittered = (seen.astype(int) + np.random.default_rng(4).integers(-3, 4, seen.shape)).clip(0, 255)
    for images in (seen, jittered.astype(np.uint8)):
        of_seen = found_in(images, seen)["of_seen"]["synthetic"]
        assert of_seen["near"] == of_seen["close"] == 1.0


def test_new_images_are_as_close_as_real_test_images_are():
    # by chance 1 % is close; 60 draws beside a quantile of 60 others
    assert found_in(noise(60, 5))["of_seen"]["synthetic"]["close"] <= 0.1


def test_a_set_of_little_variety_is_close_within_itself():
    modes = noise(5, 6)
    images = modes[np.arange(40) % 5] ^ noise(40, 7) % 32
    found = found_in(images)
    assert found["within"]["synthetic"]["close"] == 1.0
    assert found["of_seen"]["synthetic"]["close"] <= 0.1


def test_percentiles_go_from_the_nearest_to_the_farthest():
    synthetic, seen = noise(40, 3), noise(60, 1)
    away = np.sqrt(((synthetic[:, None].astype(float) - seen[None]) ** 2).mean((2, 3, 4))).min(1)
    percentiles = found_in(synthetic, seen)["of_seen"]["synthetic"]["percentiles"]
    assert len(percentiles) == len(PERCENTILES)
    np.testing.assert_allclose(
        [percentiles[0], percentiles[10], percentiles[-1]], np.quantile(away, (0, 0.5, 1)), rtol=1e-5
    )


def test_a_copying_machine_is_seen_although_some_real_test_images_are_copies_too():
    real_test = np.concatenate([np.zeros(20), np.ones(980)])
    assert _close(np.zeros(1000), real_test) == 1.0
    assert _close(np.ones(1000), real_test) == 0.0
