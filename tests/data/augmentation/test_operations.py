"""Operations of augmentation policies, beside Pillow's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil.data.augmentation import operations

FILL = 128
CASES = [
    *((name, 0.0) for name in ("identity", "invert", "auto_contrast", "equalize")),
    *(("solarize", threshold) for threshold in (0.0, 128.0, 199.1, 255.0, 256.0)),
    *(("posterize", bits) for bits in (1, 2, 5, 8)),
    *((name, size) for name in ("shear_x", "shear_y") for size in (0.1, -0.3, 0.99)),
    *((name, size) for name in ("translate_x", "translate_y") for size in (3.0, -14.5, 4.83, 40.0)),
    *(("rotate", degrees) for degrees in (6.67, -30.0, 90.0, 135.0)),
    *((name, factor) for name in operations.BLENDS for factor in (0.01, 0.1, 1.0, 1.7, 1.99)),
]


@pytest.fixture(scope="module")
def differences(photographs, in_pillow):
    """By case, how far each level is from Pillow's; one batch, one program."""

    def measure(interpolation, cases):
        images = photographs(len(cases))
        chosen = np.array([operations.number(name) for name, _ in cases], np.int32)
        sizes = np.array([size for _, size in cases], np.float32)
        apply = jax.jit(operations.apply, static_argnums=(3, 4))
        ours = np.asarray(apply(images, chosen, sizes, FILL, interpolation))
        theirs = [in_pillow(*case, image, FILL, interpolation) for case, image in zip(cases, images)]
        return {case: abs(a.astype(int) - b) for case, a, b in zip(cases, ours, theirs)}

    return measure


def test_every_operation_is_held_to_pillow():
    assert {name for name, _ in CASES} == set(operations.OPERATIONS)


def test_operations_are_pillows_to_the_level(differences):
    # auto_contrast: Pillow scales in float64 and cuts, which loses a level where the exact value is an integer.
    # Blends: one float32 product and sum, that a compiler may round once or twice before it is cut.
    for (name, size), difference in differences("nearest", CASES).items():
        inexact = name == "auto_contrast" or name in operations.BLENDS
        assert difference.max() <= (1 if inexact else 0), (name, size)
        assert (difference > 0).mean() < 0.05, (name, size)


def test_bilinear_operations_are_pillows_to_a_level(differences):
    # Pillow interpolates in float64 and cuts: where that falls on a whole level, as at 90 degrees everywhere, float32
    # may lie just below it. Rounding in place of cutting would move half of all levels
    cases = [case for case in CASES if case[0] in operations.AFFINE]
    for (name, size), difference in differences("bilinear", cases).items():
        assert difference.max() <= 1, (name, size)
        assert (difference > 0).mean() < 0.2, (name, size)


def test_a_single_level_is_left_alone_by_what_stretches_levels():
    flat = jnp.full((2, 8, 8, 3), 77, jnp.uint8)
    chosen = np.array([operations.number(name) for name in ("auto_contrast", "equalize")], np.int32)
    np.testing.assert_array_equal(operations.apply(flat, chosen, np.zeros(2, np.float32), 0, "nearest"), flat)


@pytest.mark.parametrize(
    ("name", "expected"), [("rotate", (-2.0, 2.0)), ("contrast", (-1.0, 3.0)), ("posterize", (2.0, 2.0))]
)
def test_only_affine_operations_and_blends_have_a_sign(name, expected):
    chosen = np.full(2, operations.number(name), np.int32)
    given = operations.signed(chosen, np.full(2, 2.0, np.float32), np.array([False, True]))
    np.testing.assert_array_equal(given, np.float32(expected))
