"""All extractors: shapes, stems, stages, what a network starts as, and bfloat16."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil import convolution
from jaxcil.errors import InputError
from jaxcil.extractors.resnet import ResNet18
from jaxcil.extractors.resnet_cifar import ResNetCIFAR
from jaxcil.extractors.resnet_rebuffi import ResNetRebuffi

OURS = convolution.conv_general_dilated
NETWORKS = {
    "cifar": ResNetCIFAR(blocks=1, width=4, convolution=OURS),
    "lucir": ResNetCIFAR(blocks=1, width=4, convolution=OURS, shortcut="B", last_relu=False),
    "rebuffi": ResNetRebuffi(width=4, convolution=OURS),
    "resnet18": ResNet18(width=4, convolution=OURS),
}


def shapes(network, side):
    """Of features and of the maps of the stages, without computing any."""

    def apply(key, images):
        return network.apply(network.init(key, images), images, mutable=["intermediates"])

    features, sown = jax.eval_shape(apply, jax.random.key(0), jnp.zeros((2, side, side, 3)))
    maps = sown["intermediates"]
    return features.shape, [maps[name][0].shape[1:] for name in sorted(maps)]


@pytest.mark.parametrize(
    ("network", "side", "features", "maps"),
    [
        (ResNetCIFAR(), 32, 64, [(32, 32, 16), (16, 16, 32), (8, 8, 64)]),
        (ResNetRebuffi(), 32, 64, [(32, 32, 16), (16, 16, 32), (8, 8, 64), (8, 8, 64)]),
        (ResNet18(), 32, 512, [(32, 32, 64), (16, 16, 128), (8, 8, 256), (4, 4, 512)]),
        (ResNet18("imagenet"), 224, 512, [(56, 56, 64), (28, 28, 128), (14, 14, 256), (7, 7, 512)]),
        (ResNet18("pycil"), 224, 512, [(112, 112, 64), (56, 56, 128), (28, 28, 256), (14, 14, 512)]),
    ],
    ids=["ResNet-32", "rebuffi", "cifar stem", "imagenet stem", "pycil stem"],
)
def test_features_and_maps_have_the_published_shapes(network, side, features, maps):
    assert shapes(network, side) == ((2, features), maps)


@pytest.mark.parametrize(
    ("network", "count"),
    # torch: sum(p.numel() for p in m.parameters()) less the head; torchvision's resnet18 has 11,176,512 without fc
    [(ResNet18("imagenet"), 11_176_512), (ResNet18("cifar"), 11_176_512 - 64 * 3 * (49 - 9))],
    ids=["imagenet", "cifar"],
)
def test_resnet18_has_as_many_parameters_as_torchvision(network, count):
    variables = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == count


def test_an_unknown_stem_is_told():
    with pytest.raises(InputError, match="Did you mean 'imagenet'"):
        ResNet18("imagenett")


def test_podnets_network_starts_as_its_stem_seen_through_its_shortcuts():
    # every block adds a zero: every fourth pixel of the first stage, and channels that nobody wrote
    network = NETWORKS["rebuffi"]
    images = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))

    @jax.jit
    def start(key, images):
        return network.apply(network.init(key, images), images, mutable=["intermediates"])

    features, sown = start(jax.random.key(0), images)
    first, last = (np.asarray(sown["intermediates"][name][-1]) for name in ("stage_1", "stage_4"))
    np.testing.assert_array_equal(last[..., :4], first[:, ::4, ::4])
    np.testing.assert_array_equal(last[..., 4:], 0)
    np.testing.assert_allclose(features, last.mean((1, 2)), rtol=1e-6)


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS.keys())
def test_bfloat16_keeps_parameters_statistics_and_features_float32(network):
    def step(key, images):
        half = network.clone(dtype=jnp.bfloat16)
        variables = half.init(key, images)
        return variables, half.apply(variables, images, train=True, mutable=["batch_stats"])

    made = jax.eval_shape(step, jax.random.key(0), jnp.zeros((4, 8, 8, 3)))
    assert {leaf.dtype for leaf in jax.tree.leaves(made)} == {jnp.dtype("float32")}


def test_bfloat16_computes_what_float32_does():
    network = NETWORKS["cifar"]
    images = jax.random.normal(jax.random.key(1), (4, 8, 8, 3))

    @jax.jit
    def both(key, images):
        variables = network.init(key, images)
        return network.apply(variables, images), network.clone(dtype=jnp.bfloat16).apply(variables, images)

    full, half = both(jax.random.key(0), images)
    # 8 bits of mantissa, rounded some twenty times
    np.testing.assert_allclose(half, full, rtol=0, atol=0.05 * np.abs(full).max())
    assert np.abs(half - full).max() > 0
