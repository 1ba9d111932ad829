"""PODNet's ResNet-32 of small images (Douillard et al., 2020), after Rebuffi's: image -> feature.

It is another network than `ResNetCIFAR`: 5, 5, 4 and 1 residual blocks in four stages, the fourth as wide as the
third; no sum of a block is rectified; the second normalisation of every block starts with scale 0; shortcuts take
every second pixel and append zero channels. The head and the class means see the mean over the last map, which has
both signs. Figures of PODNet's code and of ports to the usual ResNet-32 come from different networks.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
from jax import Array, lax

from jaxcil.extractors.batch_norm import BatchNorm
from jaxcil.extractors.residual import ResidualBlock, conv, pooled

BLOCKS = (5, 5, 4, 1)


class ResNetRebuffi(nn.Module):
    """Features [B, 4 * width], of both signs, of images [B, H, W, 3] in [-1, 1].

    The maps of the stages are sown as "stage_1" to "stage_4": apply it with mutable=["intermediates"] to have what
    PODNet's distillation compares.

    Attributes:
      width: channels of the first stage; the others have two, four and four times as many.
      blocks: residual blocks of each stage.
      convolution: what computes the convolutions; training passes `jaxcil.convolution.conv_general_dilated`.
      dtype: of the computation, jnp.bfloat16 say; parameters, statistics and features are float32. None: float32.
    """

    width: int = 16
    blocks: tuple[int, int, int, int] = BLOCKS
    convolution: Callable[..., Array] = lax.conv_general_dilated
    dtype: Any = None

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Array:
        """With train=True batch statistics normalise, and the collection "batch_stats" must be mutable."""
        x = conv(self.width, 3, 1, self.convolution, self.dtype, "conv_1_3x3")(images)
        x = nn.relu(BatchNorm(train, name="bn_1")(x))
        for stage, blocks in enumerate(self.blocks):
            for block in range(blocks):
                x = ResidualBlock(
                    self.width * 2 ** min(stage, 2),
                    stride=2 if stage in (1, 2) and block == 0 else 1,
                    convolution=self.convolution,
                    last_relu=False,
                    zero_scale=True,
                    dtype=self.dtype,
                    name=f"stage_{stage + 1}_{block}",
                )(x, train)
            self.sow("intermediates", f"stage_{stage + 1}", x)
        return pooled(x)
