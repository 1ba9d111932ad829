"""jaxcil import-images SOURCE --workdir=DIR [--image_size=N] [--shard_size=N] [--class_names=NAMES]

Makes a data set of the kind that `jaxcil generate` writes from images of any other tool. SOURCE is a folder with a
folder, a zip or a tar(.gz) file a class, or one such file with a folder a class. Given again, it goes on.

    --image_size   side to which images are cut and resized; without it all must have one size
    --shard_size   images a file, 1000
    --class_names  the classes to take, in the order of their labels: cat,dog or a file with a name a line
"""

import pathlib

from absl import flags

from jaxcil.errors import InputError
from jaxcil.workdir import locked


def main(arguments: list[str]) -> None:
    """Imports and prints where the images are."""
    values = flags.FlagValues()
    values.set_gnu_getopt()  # the source may stand before the flags
    flags.DEFINE_string("workdir", None, "", flag_values=values)
    flags.DEFINE_integer("image_size", None, "", flag_values=values)
    flags.DEFINE_integer("shard_size", 1000, "", flag_values=values)
    flags.DEFINE_string("class_names", None, "", flag_values=values)
    try:
        sources = values(["jaxcil", *arguments])[1:]
    except flags.Error as error:
        raise InputError(str(error)) from None
    if len(sources) != 1:
        raise InputError(f"expected one source of images, got {' '.join(sources) or 'none'}")
    if values.workdir is None:
        raise InputError("--workdir is missing")
    names = None if values.class_names is None else _names(values.class_names)
    from jaxcil.synthesis.import_images import import_images  # here, so that a mistyped flag is told at once

    with locked(values.workdir):
        manifest = import_images(
            values.workdir,
            sources[0],
            image_size=values.image_size,
            shard_size=values.shard_size,
            class_names=names,
        )
    print(f"{manifest.requests.total} images of {len(manifest.class_names)} classes: {values.workdir}")
    print(f"{values.workdir}/contact_sheet.png")


def _names(value: str) -> list[str]:
    """Class names out of a file with one a line, or divided by commas."""
    if not pathlib.Path(value).is_file():
        return [name.strip() for name in value.split(",")]
    try:
        return [line.strip() for line in pathlib.Path(value).read_text().splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise InputError(f"{value} cannot be read: {error}") from None
