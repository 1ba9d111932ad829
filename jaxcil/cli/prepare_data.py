"""jaxcil prepare-data NAME [--data_dir=DIR] [--manual_dir=DIR]

Makes files of a data set that TFDS knows, once, in a format that every other verb reads without TensorFlow. NAME is
cifar10, cifar100, imagenet2012, imagenet_resized/32x32 (8x8, 16x16, 64x64), or tfds:BUILDER for any other with an image
and a label a record. Needs the extra "prepare". Folders of images, Tiny-ImageNet's among them, need no preparation.

    --data_dir    TFDS folder to write to; else that of the user, ~/tensorflow_datasets
    --manual_dir  holds archives that were downloaded by hand: of imagenet2012 ILSVRC2012_img_train.tar and
                  ILSVRC2012_img_val.tar; of others where their sites cannot be reached
"""

from absl import flags

from jaxcil.errors import InputError


def main(arguments: list[str]) -> None:
    """Prepares and prints where the data set is."""
    values = flags.FlagValues()
    values.set_gnu_getopt()  # the name may stand before the flags
    flags.DEFINE_string("data_dir", None, "", flag_values=values)
    flags.DEFINE_string("manual_dir", None, "", flag_values=values)
    try:
        names = values(["jaxcil", *arguments])[1:]
    except flags.Error as error:
        raise InputError(str(error)) from None
    if len(names) != 1:
        raise InputError(f"expected one data set, got {' '.join(names) or 'none'}")
    from jaxcil.data.prepare import prepare  # here, so that a mistyped flag is told at once

    print(prepare(names[0], values.data_dir, values.manual_dir))
