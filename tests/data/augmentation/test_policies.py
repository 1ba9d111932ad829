"""AutoAugment and TrivialAugment: what they draw, and that it is what they do."""

import jax
import numpy as np
import pytest

from jaxcil.data.augmentation import augmentation, autoaugment, operations, trivial_augment

DRAWS = 20_000


@pytest.fixture(scope="module")
def keys():
    return jax.random.split(jax.random.key(0), DRAWS)


def drawn(draw, keys, *size):
    """What a policy draws, as numpy arrays, by one program."""
    return jax.tree.map(np.asarray, jax.jit(draw, static_argnums=(1, 2)[: len(size)])(keys, *size))


def shares_of(chosen):
    """How often each operation comes in an image."""
    return {name: (chosen == operations.number(name)).sum() / DRAWS for name in operations.OPERATIONS}


def sizes_of(name, chosen, magnitudes):
    return np.unique(magnitudes[chosen == operations.number(name)])


def test_autoaugment_draws_the_published_sub_policies(keys):
    chosen, magnitudes = drawn(autoaugment.draw, keys, 32, 32)
    shares = shares_of(chosen)
    # Sums of the probabilities of Cubuk et al., table 7; the standard error of a share s is at most sqrt(2 s / n)
    for name, total in (
        *(("invert", 0.2), ("rotate", 0.7), ("posterize", 0.3), ("translate_x", 0.8), ("translate_y", 3.4)),
        *(("equalize", 4.7), ("auto_contrast", 5.0), ("solarize", 1.9), ("shear_x", 0.0), ("shear_y", 0.7)),
        *(("brightness", 2.3), ("color", 2.9), ("contrast", 0.8), ("sharpness", 2.8)),
    ):
        assert abs(shares[name] - total / 25) <= 4 * np.sqrt(2 * total / 25 / DRAWS), name
    np.testing.assert_allclose(sizes_of("rotate", chosen, magnitudes), [-20 / 3, 20 / 3], rtol=1e-6)
    np.testing.assert_allclose(
        sizes_of("shear_y", chosen, magnitudes), [-8 / 30, -7 / 30, 7 / 30, 8 / 30], rtol=1e-6
    )
    np.testing.assert_array_equal(sizes_of("posterize", chosen, magnitudes), [5])
    np.testing.assert_allclose(sizes_of("translate_x", chosen, magnitudes)[-1], 150 / 331 * 32, rtol=1e-6)
    np.testing.assert_allclose(sizes_of("contrast", chosen, magnitudes), [0.3, 0.4, 1.6, 1.7], rtol=1e-6)


def test_trivial_augment_draws_operations_and_magnitudes_uniformly(keys):
    chosen, magnitudes = drawn(trivial_augment.draw, keys)
    shares = shares_of(chosen)
    assert shares.pop("invert") == 0
    # 14 binomial shares of standard error 1.8e-3
    np.testing.assert_allclose(list(shares.values()), 1 / 14, atol=8e-3)
    for name, low, high, count in (
        *(("rotate", -135, 135, 61), ("shear_x", -0.99, 0.99, 61), ("brightness", 0.01, 1.99, 61)),
        *(
            ("translate_y", -32, 32, 61),
            ("posterize", 2, 8, 7),
            ("solarize", 0, 255, 31),
            ("equalize", 0, 0, 1),
        ),
    ):
        sizes = sizes_of(name, chosen, magnitudes)
        # 1,400 draws of each operation miss one of 61 sizes with probability below 1e-8
        assert len(sizes) == count, name
        np.testing.assert_allclose(sizes[[0, -1]], [low, high], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("policy", ["autoaugment", "trivial_augment", "trivial_augment_bilinear"])
def test_a_policy_does_in_turn_what_pillow_does(policy, photographs, in_pillow):
    images = photographs(60)
    keys = jax.random.split(jax.random.key(1), len(images))
    interpolation = "bilinear" if policy.endswith("bilinear") else "nearest"
    if policy == "autoaugment":
        ours = jax.jit(autoaugment.autoaugment)(keys, images)
        chosen, magnitudes = drawn(autoaugment.draw, keys, *images.shape[1:3])
        fill = 128
    else:
        ours = jax.jit(augmentation.POLICIES[policy])(keys, images)
        chosen, magnitudes = (value[None] for value in drawn(trivial_augment.draw, keys))
        fill = 0
    theirs = images
    for operation, magnitude in zip(chosen, magnitudes):
        names = [operations.OPERATIONS[which] for which in operation]
        theirs = [in_pillow(*case, fill, interpolation) for case in zip(names, magnitude.tolist(), theirs)]
    difference = abs(np.asarray(ours).astype(int) - np.stack(theirs))
    # a level that one operation rounds elsewhere (5 percent of them) may be stretched by the next
    assert (difference > 1).mean() < 0.01
    assert (difference.reshape(len(images), -1).mean(axis=1) < 1).all()
