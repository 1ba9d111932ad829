"""jaxcil prepare-data NAME [--data_dir=DIR] [--manual_dir=DIR]

Prepares a data set that TFDS knows, once, in a format that every other verb reads without TensorFlow. NAME is cifar10,
cifar100, imagenet2012, imagenet_resized/32x32 (8x8, 16x16, 64x64), or tfds:BUILDER for any other whose records have an
image and a label. Needs the extra "prepare". Folders of images, Tiny-ImageNet's among them, need no preparation.

    --data_dir    TFDS folder to write to; without it the user's, ~/tensorflow_datasets
    --manual_dir  holds archives that were downloaded by hand: ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar for
                  imagenet2012; any whose site cannot be reached
"""

from jaxcil.cli.arguments import read_flags


def main(arguments: list[str]) -> None:
    """Prepares the data set and prints its folder."""
    flags = read_flags(arguments, {"name": "one data set"}, data_dir=str, manual_dir=str)
    from jaxcil.data.prepare import prepare  # here, so that a mistyped flag is refused at once

    print(prepare(flags["name"], flags["data_dir"], flags["manual_dir"]))
