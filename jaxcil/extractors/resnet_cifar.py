"""The residual network of small images (He et al., 2016, section 4.2): image -> feature.

A 3x3 convolution, then three stages of `blocks` residual blocks each, the second and third halving the
resolution, then the mean over the map. 5 blocks a stage make ResNet-32, 1 makes ResNet-8. The usual network has
shortcuts of type A; that of LUCIR (Hou et al., 2019), whose head is cosine, has type B and leaves the last block's
sum as it is, so that features have both signs.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
from jax import Array, lax

from jaxcil.extractors.batch_norm import BatchNorm
from jaxcil.extractors.residual import ResidualBlock, Shortcut, conv, pooled


class ResNetCIFAR(nn.Module):
    """Features [B, 4 * width] of images [B, H, W, 3] in [-1, 1]; not negative with last_relu.

    The maps of the stages, [B, H, W, width] and so on, are sown as "stage_1", "stage_2" and "stage_3": apply it with
    mutable=["intermediates"] to have them.

    Attributes:
      blocks: residual blocks of each stage, or of the three; 2 * (their number) + 2 layers in all.
      width: channels of the first stage; the others have twice and four times as many.
      convolution: what computes the convolutions; training passes `jaxcil.convolution.conv_general_dilated`.
      shortcut: "A" without parameters, or "B" with a 1x1 convolution and a normalisation, where a stage begins.
      last_relu: whether the last block's sum is rectified.
      dtype: of the computation, jnp.bfloat16 say; parameters, statistics and features are float32. None: float32.
    """

    blocks: int | tuple[int, int, int] = 5
    width: int = 16
    convolution: Callable[..., Array] = lax.conv_general_dilated
    shortcut: Shortcut = "A"
    last_relu: bool = True
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Array:
        """With train=True batch statistics normalise, and the collection "batch_stats" must be mutable."""
        x = conv(self.width, 3, 1, self.convolution, self.dtype, "conv_1_3x3")(images)
        x = nn.relu(BatchNorm(train, name="bn_1")(x))
        blocks = (self.blocks,) * 3 if isinstance(self.blocks, int) else self.blocks
        for stage in range(3):
            for block in range(blocks[stage]):
                x = ResidualBlock(
                    self.width * 2**stage,
                    stride=2 if stage > 0 and block == 0 else 1,
                    convolution=self.convolution,
                    shortcut=self.shortcut,
                    last_relu=self.last_relu or (stage, block) != (2, blocks[2] - 1),
                    dtype=self.dtype,
                    name=f"stage_{stage + 1}_{block}",
                )(x, train)
            self.sow("intermediates", f"stage_{stage + 1}", x)
        return pooled(x)
