"""Images on their way into a network: number format and random changes, inside jit."""

import functools
from typing import Any, Literal

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from jaxcil import keys
from jaxcil.data.augmentation import blur, colour, crops
from jaxcil.data.augmentation.augmix import augmix
from jaxcil.data.augmentation.autoaugment import autoaugment
from jaxcil.data.augmentation.trivial_augment import trivial_augment
from jaxcil.errors import InputError, unknown_name

POLICIES = {
    "autoaugment": autoaugment,
    "trivial_augment": trivial_augment,
    "trivial_augment_bilinear": functools.partial(trivial_augment, interpolation="bilinear"),
    "augmix": augmix,
}


def to_float(images: Array) -> Array:
    """uint8 [..., H, W, 3] to float32 in [-1, 1]."""
    return images.astype(jnp.float32) / 127.5 - 1.0


def random_shift(key: Array, images: Array, pixels: int) -> Array:
    """Shifts every image by up to `pixels` in both directions; what comes in repeats the border.

    The crop of a padded image of He et al. (2016), with the border repeated in place of zeros, which would
    be grey here.

    Args:
      key: one key; image b uses its own part of it.
      images: [B, H, W, 3].
      pixels: 0 gives the images back.
    """
    if pixels == 0:
        return images
    offsets = jax.random.randint(key, (len(images), 2), 0, 2 * pixels + 1)
    return crops.windows(crops.pad(images, pixels, "edge"), offsets, images.shape)


@flax.struct.dataclass
class Augmentation:
    """Random changes of training images, each image its own, in this order:

        crop or random_resized_crop, flip, brightness, contrast, saturation, hue, grayscale, blur, policy, cutout

    What is left at its default does nothing and costs nothing. Numbers that are leaves may be swept by `vmap` or
    traced by `jit`; then they cost their work at 0 too. A policy works on grey levels, as Pillow does, and rounds to
    them. (torchvision jitters in a random order.)

    Recipes: PyCIL's and PODNet's crop=4, flip=True, brightness=63 / 255, with policy="autoaugment" and cutout=16
    for its FOSTER and FeTrIL; ACIL's crop=4, flip=True, policy="trivial_augment_bilinear"; FeTrIL's own on
    ImageNet random_resized_crop=True, flip=True, then policy="augmix" in place of flip.

    Attributes:
      crop: pixels of padding of `crops.padded_crop`.
      border: what the crop shows outside the image: "black", "edge" or "reflect".
      flip: left and right exchanged in half of the images.
      policy: "autoaugment" (the policy of CIFAR-10), "trivial_augment" (wide ranges; with "_bilinear" moved images
        are interpolated) or "augmix" (severity 5, chains of 7).
      cutout: side of a black square in pixels.
      random_resized_crop: a rectangle of 8 to 100 percent of the area, scaled to the image's size.
      brightness: factor uniform in [max(0, 1 - brightness), 1 + brightness], as the two below.
      contrast: around the mean grey.
      saturation: around the grey image.
      hue: turn uniform in [-hue, hue] of the circle, at most 0.5.
      grayscale: probability.
      blur: largest standard deviation of a Gaussian in pixels, uniform from 0.

    Raises:
      InputError: for an unknown name, a number out of its range (where its value is known), or two crops.
    """

    crop: int = flax.struct.field(pytree_node=False, default=0)
    border: Literal["black", "edge", "reflect"] = flax.struct.field(pytree_node=False, default="black")
    flip: bool = flax.struct.field(pytree_node=False, default=False)
    policy: Literal["autoaugment", "trivial_augment", "trivial_augment_bilinear", "augmix"] | None = (
        flax.struct.field(pytree_node=False, default=None)
    )
    cutout: int = flax.struct.field(pytree_node=False, default=0)
    random_resized_crop: bool = flax.struct.field(pytree_node=False, default=False)
    brightness: Array | float = 0.0
    contrast: Array | float = 0.0
    saturation: Array | float = 0.0
    hue: Array | float = 0.0
    grayscale: Array | float = 0.0
    blur: Array | float = 0.0

    def __post_init__(self):
        """Checks what is known."""
        if self.border not in crops.PADDING:
            raise unknown_name("border", self.border, crops.PADDING)
        if self.policy is not None and self.policy not in POLICIES:
            raise unknown_name("policy", self.policy, POLICIES)
        for name, upper in (
            *(("crop", np.inf), ("cutout", np.inf), ("brightness", np.inf), ("contrast", np.inf)),
            *(("saturation", np.inf), ("hue", 0.5), ("grayscale", 1.0), ("blur", np.inf)),
        ):
            value = getattr(self, name)
            if _known(value) and not bool(np.all((np.asarray(value) >= 0) & (np.asarray(value) <= upper))):
                what = "at least 0" if upper == np.inf else f"between 0 and {upper}"
                raise InputError(f"{name} of an augmentation must be {what}, got {value}")
        if self.crop and self.random_resized_crop:
            raise InputError(
                f"an augmentation crops once, got crop={self.crop} and random_resized_crop: set one of them"
            )

    def __call__(self, key: Array, images: Array) -> Array:
        """Changes every image at random.

        Args:
          key: one key; image b uses fold_in(key, b) alone, so that it does not depend on the batch around it.
          images: float32 [B, H, W, 3] in [-1, 1].

        Returns:
          float32 [B, H, W, 3] in [-1, 1].

        Raises:
          InputError: for images of another shape or number format, or smaller than the border mirrored.
        """
        self._check(images)
        image_keys = jax.vmap(lambda index: keys.fold(key, index))(jnp.arange(len(images)))

        def own(purpose: str) -> Array:
            return jax.vmap(lambda image_key: keys.purpose_key(image_key, purpose))(image_keys)

        if self.crop:
            images = crops.padded_crop(own("crop"), images, self.crop, self.border)
        if self.random_resized_crop:
            images = crops.resized_crop(own("random_resized_crop"), images)
        if self.flip:
            images = crops.flip(own("flip"), images)
        for name, change in (
            ("brightness", colour.jitter_brightness),
            ("contrast", colour.jitter_contrast),
            ("saturation", colour.jitter_saturation),
            ("hue", colour.jitter_hue),
            ("grayscale", colour.random_grey),
            ("blur", blur.random_blur),
        ):
            strength = getattr(self, name)
            if not (isinstance(strength, int | float) and strength == 0):
                images = change(own(name), images, strength)
        if self.policy is not None:
            levels = POLICIES[self.policy](own("policy"), _to_levels(images))
            images = to_float(levels).clip(-1, 1)  # which rounding may leave
        if self.cutout:
            images = crops.cutout(own("cutout"), images, self.cutout)
        return images

    def _check(self, images: Array) -> None:
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != jnp.float32:
            raise InputError(
                f"an augmentation takes float32 images [B, H, W, 3], got {images.dtype} {list(images.shape)}: "
                "uint8 images pass through to_float first"
            )
        self.check_shape(images.shape[1:3])

    def check_shape(self, shape: tuple[int, ...]) -> None:
        """Refuses images of a height and width that are smaller than the border mirrored."""
        if self.border == "reflect" and self.crop >= min(shape):
            raise InputError(
                f"a border of {self.crop} pixels cannot mirror images of {shape[0]} x {shape[1]}: pad less, or choose "
                'border="edge"'
            )


def _known(value: Any) -> bool:
    """Whether a field holds a number: in a traced or mapped tree it may hold anything."""
    return isinstance(value, int | float | np.ndarray | np.generic | Array) and not isinstance(value, Tracer)


def _to_levels(images: Array) -> Array:
    """Images in [-1, 1] to the nearest grey level, uint8."""
    return jnp.round((images + 1) * 127.5).clip(0, 255).astype(jnp.uint8)
