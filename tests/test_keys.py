"""Keys: a function of purpose and numbers alone."""

import jax
import numpy as np

from jaxcil import keys


def bits(key):
    return np.asarray(jax.random.key_data(key))


def test_the_key_of_an_image_does_not_depend_on_its_batch():
    root = keys.root_key(3)
    classes, indices = np.arange(6) % 3, np.arange(6) // 3
    together = bits(keys.image_keys(root, classes, indices))
    shuffled = np.array([4, 0, 5, 2])
    np.testing.assert_array_equal(
        bits(keys.image_keys(root, classes[shuffled], indices[shuffled])), together[shuffled]
    )
    assert len(np.unique(together, axis=0)) == 6


def test_purposes_and_numbers_give_different_keys():
    root = keys.root_key(0)
    made = [keys.purpose_key(root, "batches"), keys.purpose_key(root, "images"), root]
    made += [keys.fold(root, 1, 2), keys.fold(root, 2, 1), keys.fold(root, 1)]
    assert len({bits(key).tobytes() for key in made}) == len(made)
