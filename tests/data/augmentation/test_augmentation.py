"""Augmentation: an image's own draws, its order, its leaves, what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil.data.augmentation import augmentation as augment
from jaxcil.data.augmentation.augmentation import Augmentation
from jaxcil.errors import InputError

EVERYTHING = Augmentation(
    crop=3, border="edge", flip=True, policy="autoaugment", cutout=6,
    brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, grayscale=0.3, blur=1.0,
)  # fmt: skip


@pytest.fixture(scope="module")
def images(photographs):
    return np.asarray(augment.to_float(photographs(6)))


@pytest.fixture(scope="module")
def apply():
    return jax.jit(lambda augmentation, key, images: augmentation(key, images))


def test_without_settings_the_very_images_come_back(images):
    assert Augmentation()(jax.random.key(0), images) is images


def test_an_image_does_not_depend_on_the_batch_around_it(images, apply):
    key = jax.random.key(3)
    whole = apply(EVERYTHING, key, images)
    others = apply(EVERYTHING, key, np.concatenate([images[:2], images[::-1][2:]]))
    np.testing.assert_array_equal(others[:2], whole[:2])
    # another batch size is another program, which may add up the blur in another order
    np.testing.assert_allclose(apply(EVERYTHING, key, images[:2]), whole[:2], atol=1e-6)


def test_images_and_keys_have_draws_of_their_own(images, apply):
    same = np.broadcast_to(images[0], images.shape)
    changed = [np.asarray(apply(EVERYTHING, jax.random.key(seed), same)) for seed in (0, 1)]
    assert len(np.unique(np.concatenate(changed).reshape(2 * len(images), -1), axis=0)) == 2 * len(images)


@pytest.mark.parametrize(
    "augmentation",
    [
        EVERYTHING,
        Augmentation(policy="trivial_augment", random_resized_crop=True),
    ],
    ids=["everything", "trivial_augment"],
)
def test_images_keep_shape_and_range_and_the_program_is_exported_for_every_platform(augmentation, images):
    program = jax.jit(lambda key, images: augmentation(jax.random.wrap_key_data(key), images))
    key = jax.random.key_data(jax.random.key(0))
    changed = np.asarray(program(key, images))
    assert (changed.shape, changed.dtype) == (images.shape, np.float32)
    assert changed.min() >= -1
    assert changed.max() <= 1
    assert not (changed == images).all(axis=(1, 2, 3)).any()
    exported = jax.export.export(program, platforms=("cpu", "cuda", "tpu"))(key, images)
    assert exported.platforms == ("cpu", "cuda", "tpu")


def test_strengths_are_leaves_of_one_program(images):
    traces = []

    @jax.jit
    def program(augmentation):
        traces.append(1)
        return augmentation(jax.random.key(0), images)

    weak, strong = (Augmentation(brightness=value, blur=value, hue=value / 10) for value in (0.5, 2.0))
    alone = [program(weak), program(strong)]
    assert len(traces) == 1
    swept = jax.jit(jax.vmap(lambda augmentation: augmentation(jax.random.key(0), images)))
    both = swept(jax.tree.map(lambda *values: jnp.array(values), weak, strong))
    np.testing.assert_allclose(both, alone, atol=1e-5)  # float32 products of a batch in another order


def test_traced_zeros_leave_the_images_as_they_are(images, apply):
    # hues go through a division by the chroma
    zeros = Augmentation(**dict.fromkeys(augment.STRENGTHS, 0.0))
    np.testing.assert_allclose(apply(zeros, jax.random.key(0), images), images, atol=1e-6)


def test_what_is_off_is_no_part_of_the_program(images):
    def operations(augmentation):
        return str(jax.make_jaxpr(lambda a: a(jax.random.key(0), images))(augmentation)).count("\n")

    assert jax.tree.leaves(Augmentation()) == []
    assert operations(Augmentation(grayscale=0.0)) > operations(Augmentation())
    settings = dict.fromkeys(augment.STRENGTHS, 0.0) | {"crop": 2, "policy": None, "blur": 0.5}
    assert augment.of(settings) == Augmentation(crop=2, blur=0.5)


def test_the_policy_comes_after_the_colour_and_cutout_last(images):
    # The policy rounds to whole grey levels, which a jitter behind it would leave; a blur would soften the square
    jittered = jax.jit(Augmentation(policy="trivial_augment", brightness=0.4))(jax.random.key(0), images)
    away = (np.asarray(jittered) + 1) * 127.5
    np.testing.assert_allclose(away, np.round(away), atol=1e-3)
    cut = np.asarray(jax.jit(Augmentation(cutout=8, blur=3.0))(jax.random.key(0), np.ones_like(images)))
    assert set(np.unique(np.round(cut, 5))) == {-1.0, 1.0}


def test_a_tree_of_anything_may_stand_in_for_the_leaves():
    replaced = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((), jnp.float32), EVERYTHING)
    assert jax.tree.structure(replaced) == jax.tree.structure(EVERYTHING)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"policy": "autoaugmnt"}, "no policy 'autoaugmnt'.*Did you mean 'autoaugment'"),
        ({"border": "mirror"}, "no border 'mirror'; there are: black, edge"),
        ({"crop": -1}, "crop of an augmentation must be at least 0, got -1"),
        ({"brightness": -0.1}, "brightness of an augmentation must be at least 0"),
        ({"hue": 0.6}, "hue of an augmentation must be between 0 and 0.5"),
        ({"grayscale": np.array([0.1, 1.5])}, "grayscale of an augmentation must be between 0 and 1"),
        ({"blur": float("nan")}, "blur of an augmentation must be at least 0, got nan"),
        ({"crop": 4, "random_resized_crop": True}, "crops once"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        Augmentation(**settings)


@pytest.mark.parametrize(
    ("augmentation", "images", "message"),
    [
        (Augmentation(flip=True), np.zeros((2, 8, 8, 3), np.uint8), "uint8 images pass through to_float"),
        (
            Augmentation(flip=True),
            np.zeros((8, 8, 3), np.float32),
            r"\[B, H, W, 3\], got float32 \[8, 8, 3\]",
        ),
    ],
    ids=["uint8", "one_image"],
)
def test_images_that_cannot_be_augmented_are_refused(augmentation, images, message):
    with pytest.raises(InputError, match=message):
        augmentation(jax.random.key(0), images)
