"""ResNet-18 (He et al., 2016, table 1): image -> feature.

Four stages of two residual blocks, 64 to 512 channels, shortcuts by 1x1 convolutions. Stems differ between codes,
and accuracies with them, since the maps of all stages have 16 times the area under one as under another:

    "cifar"      3x3, stride 1                                    32x32 images
    "imagenet"   7x7, stride 2, then a 3x3 maximum of stride 2    the paper's
    "pycil"      3x3, stride 1, then a 3x3 maximum of stride 2    PyCIL's and FeCAM's for ImageNet-Subset
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
from jax import Array, lax

from jaxcil.errors import unknown_name
from jaxcil.extractors.batch_norm import BatchNorm
from jaxcil.extractors.residual import ResidualBlock, conv, pooled

# Name -> size and stride of the first convolution, and whether a maximum follows.
STEMS = {"cifar": (3, 1, False), "imagenet": (7, 2, True), "pycil": (3, 1, True)}


class ResNet18(nn.Module):
    """Features [B, 8 * width], not negative, of images [B, H, W, 3] in [-1, 1].

    The maps of the stages are sown as "stage_1" to "stage_4": apply it with mutable=["intermediates"] to have them.

    Attributes:
      stem: a name of `STEMS`.
      width: channels of the first stage; the others have two, four and eight times as many.
      convolution: what computes the convolutions; training passes `jaxcil.convolution.conv_general_dilated`.
      dtype: of the computation, jnp.bfloat16 say; parameters, statistics and features are float32. None: float32.
      last_relu: whether the last sum is rectified; else features have both signs, as LUCIR and PODNet take them.

    Raises:
      InputError: no such stem.
    """

    stem: str = "cifar"
    width: int = 64
    convolution: Callable[..., Array] = lax.conv_general_dilated
    dtype: Any = None
    last_relu: bool = True

    def __post_init__(self) -> None:
        if self.stem not in STEMS:
            raise unknown_name("stem", self.stem, STEMS)
        super().__post_init__()

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Array:
        """With train=True batch statistics normalise, and the collection "batch_stats" must be mutable."""
        size, stride, maximum = STEMS[self.stem]
        x = conv(self.width, size, stride, self.convolution, self.dtype, "conv_1")(images)
        x = nn.relu(BatchNorm(train, name="bn_1")(x))
        if maximum:
            x = nn.max_pool(x, (3, 3), (2, 2), padding=[(1, 1), (1, 1)])  # type: ignore[arg-type]
        for stage in range(4):
            for block in range(2):
                x = ResidualBlock(
                    self.width * 2**stage,
                    stride=2 if stage > 0 and block == 0 else 1,
                    convolution=self.convolution,
                    shortcut="B",
                    last_relu=self.last_relu or (stage, block) != (3, 1),
                    dtype=self.dtype,
                    name=f"stage_{stage + 1}_{block}",
                )(x, train)
            self.sow("intermediates", f"stage_{stage + 1}", x)
        return pooled(x)
