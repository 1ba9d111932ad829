"""AutoAugment, TrivialAugment, AugMix: what they draw, and that it is what they do."""

import jax
import numpy as np
import pytest

from jaxcil.data.augmentation import augmentation, augmix, autoaugment, operations, trivial_augment

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


def test_augmix_mixes_by_dirichlet_and_beta_shares(keys):
    chosen, magnitudes, weights = drawn(augmix.draw, keys, 32, 32)
    np.testing.assert_allclose(weights.sum(axis=0), 1, atol=1e-6)
    assert weights.min() >= 0
    # of w_0 = 1 - m and w_i = m s_i: E = 1/2 and 1/6, E of the square = 1/3 and 1/3 x 1/6; errors below 0.0025
    np.testing.assert_allclose(weights.mean(axis=1), [1 / 2, 1 / 6, 1 / 6, 1 / 6], atol=0.009)
    np.testing.assert_allclose((weights**2).mean(axis=1), [1 / 3, 1 / 18, 1 / 18, 1 / 18], atol=0.009)
    shares = shares_of(chosen)
    assert shares.pop("identity") == shares.pop("invert") == 0
    # 21 draws an image: 13 shares of standard error 8.7e-3
    np.testing.assert_allclose(list(shares.values()), 21 / 13, atol=0.04)
    for name, low, high in (
        *(("rotate", -40 / 3, 40 / 3), ("translate_x", -4, 4), ("posterize", 2, 4)),
        *(("shear_y", -0.4 / 3, 0.4 / 3), ("color", 0.6, 1.4), ("solarize", 255 * 5 / 9, 255)),
    ):
        np.testing.assert_allclose(sizes_of(name, chosen, magnitudes)[[0, -1]], [low, high], rtol=1e-5)


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


def test_augmix_is_the_mixture_of_chains_done_one_image_at_a_time(photographs):
    images = photographs(3)
    keys = jax.random.split(jax.random.key(2), len(images))
    mixed = jax.jit(augmix.augmix)(keys, images)
    chosen, magnitudes, weights = drawn(augmix.draw, keys, *images.shape[1:3])
    apply = jax.jit(operations.apply, static_argnums=(3, 4))
    for index, image in enumerate(images):
        expected = weights[0, index] * image.astype(np.float32)
        for chain in range(augmix.WIDTH):
            levels = image[None]
            for step in range(augmix.DEPTH):
                operation, magnitude = (value[step, chain, [index]] for value in (chosen, magnitudes))
                levels = apply(levels, operation, magnitude, 0, "bilinear")
            expected += weights[1 + chain, index] * np.asarray(levels[0])
        np.testing.assert_allclose(mixed[index], expected, atol=1e-3)  # float32 sums of four levels
