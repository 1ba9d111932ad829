"""The networks and output layers that configs and run folders name."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxcil.extractors.output_layer import Cosine, Linear
from jaxcil.extractors.resnet import ResNet18
from jaxcil.extractors.resnet_cifar import ResNetCIFAR
from jaxcil.extractors.resnet_rebuffi import ResNetRebuffi

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "resnet8": functools.partial(ResNetCIFAR, blocks=1),
    "resnet8_lucir": functools.partial(ResNetCIFAR, blocks=(1, 1, 2), shortcut="B", last_relu=False),
    "resnet14": functools.partial(ResNetCIFAR, blocks=2),
    "resnet20": functools.partial(ResNetCIFAR, blocks=3),
    "resnet32": functools.partial(ResNetCIFAR, blocks=5),
    "resnet32_lucir": functools.partial(ResNetCIFAR, blocks=5, shortcut="B", last_relu=False),
    "resnet32_podnet": ResNetRebuffi,
    "resnet18": functools.partial(ResNet18, stem="cifar"),
    "resnet18_pycil": functools.partial(ResNet18, stem="pycil"),
    "resnet18_imagenet": functools.partial(ResNet18, stem="imagenet"),
    "resnet18_lucir": functools.partial(ResNet18, stem="imagenet", last_relu=False),
}
# No ReLU at their end: features of both signs
SIGNED = ("resnet8_lucir", "resnet32_lucir", "resnet32_podnet", "resnet18_lucir")
OUTPUT_LAYERS = {"linear": Linear, "cosine": Cosine}
DTYPES = ("float32", "bfloat16")


def make_network(name: str, dtype: str, convolution: Callable[..., Any]) -> nn.Module:
    """A network images [B, H, W, 3] -> features [B, D] by its name.

    Args:
      name: one of NETWORKS.
      dtype: one of DTYPES, of its computations; parameters and statistics are float32.
      convolution: computes its convolutions: `convolution.conv_general_dilated` where it is trained on a CPU,
        `jax.lax.conv_general_dilated` where it only predicts.
    """
    return NETWORKS[name](convolution=convolution, dtype=jnp.dtype(dtype))
