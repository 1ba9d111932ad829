"""Images on their way into a network: number format and random changes, inside jit."""

import functools
from collections.abc import Mapping
from typing import Any, Literal

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from jaxcil import keys
from jaxcil.data.augmentation import colour, crops
from jaxcil.data.augmentation.autoaugment import autoaugment
from jaxcil.data.augmentation.trivial_augment import trivial_augment
from jaxcil.errors import InputError, unknown_name

POLICIES = {
    "autoaugment": autoaugment,
    "trivial_augment": trivial_augment,
    "trivial_augment_bilinear": functools.partial(trivial_augment, interpolation="bilinear"),
}
STRENGTHS = {
    "brightness": colour.jitter_brightness,
    "contrast": colour.jitter_contrast,
    "saturation": colour.jitter_saturation,
    "hue": colour.jitter_hue,
    "grayscale": colour.random_grey,
    "blur": colour.random_blur,
}  # in the order in which they are applied


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
    """Random changes of training images, drawn for each image separately and applied in this order:

        crop or random_resized_crop, flip, brightness, contrast, saturation, hue, grayscale, blur, policy, cutout

    What is left at its default is off and costs nothing. The strengths (brightness to blur) are leaves, which may be
    traced by `jit` or swept by `vmap`; one that is off is None, not 0, since a traced 0 costs as much as any other
    number. `of` makes an augmentation from settings in which 0 means off. A Python number is a constant of the program;
    traced, it is float32, and 1 - strength may differ in the last bit: a learner that needs the bits of the constants
    keeps its augmentation static (it is hashable). A policy works on grey levels, as Pillow
    does, and rounds to them. (torchvision applies its jitters in a random order.)

    Recipes: PyCIL's and PODNet's crop=4, flip=True, brightness=63 / 255, with policy="autoaugment" and cutout=16
    for its FOSTER and FeTrIL; ACIL's crop=4, flip=True, policy="trivial_augment_bilinear".

    Attributes:
      crop: pixels of padding of `crops.padded_crop`.
      border: what the crop shows outside the image: "black" or "edge".
      flip: left and right exchanged in half of the images.
      policy: "autoaugment" (the policy of CIFAR-10), or "trivial_augment" (wide ranges; with "_bilinear", moved images
        are interpolated).
      cutout: side of a black square in pixels.
      random_resized_crop: a rectangle of 8 to 100 percent of the area, scaled to the image's size.
      brightness: factor uniform in [max(0, 1 - brightness), 1 + brightness], as for the next two.
      contrast: around the mean grey.
      saturation: around the grey image.
      hue: turn uniform in [-hue, hue] of the circle, at most 0.5.
      grayscale: probability.
      blur: largest standard deviation of a Gaussian in pixels, uniform from 0.

    Raises:
      InputError: for an unknown name, a number out of its range (where its value is known), or two crops.
    """

    crop: int = flax.struct.field(pytree_node=False, default=0)
    border: Literal["black", "edge"] = flax.struct.field(pytree_node=False, default="black")
    flip: bool = flax.struct.field(pytree_node=False, default=False)
    policy: Literal["autoaugment", "trivial_augment", "trivial_augment_bilinear"] | None = flax.struct.field(
        pytree_node=False, default=None
    )
    cutout: int = flax.struct.field(pytree_node=False, default=0)
    random_resized_crop: bool = flax.struct.field(pytree_node=False, default=False)
    brightness: Array | float | None = None
    contrast: Array | float | None = None
    saturation: Array | float | None = None
    hue: Array | float | None = None
    grayscale: Array | float | None = None
    blur: Array | float | None = None

    def __post_init__(self):
        """Checks the values that are known."""
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
          InputError: for images of another shape or number format.
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
        for name, change in STRENGTHS.items():
            strength = getattr(self, name)
            if strength is not None:
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


def of(settings: Mapping[str, Any]) -> Augmentation:
    """The augmentation with these fields, as a config gives them: a strength of 0 is off."""
    values: dict[str, Any] = dict(settings)
    for name in STRENGTHS:
        if isinstance(values.get(name), int | float) and values[name] == 0:
            values[name] = None
    return Augmentation(**values)


def _known(value: Any) -> bool:
    """Whether a field holds a number: in a traced or mapped tree it may hold anything."""
    return isinstance(value, int | float | np.ndarray | np.generic | Array) and not isinstance(value, Tracer)


def _to_levels(images: Array) -> Array:
    """Images in [-1, 1] to the nearest grey level, uint8."""
    return jnp.round((images + 1) * 127.5).clip(0, 255).astype(jnp.uint8)
