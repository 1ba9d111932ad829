"""jaxcil import-images SOURCE --workdir=DIR [--image_size=N] [--shard_size=N] [--class_names=NAMES] [--licence=L]

Makes a data set of the kind that `jaxcil generate` writes from images of any other tool. SOURCE is a folder with a
folder, a zip or a tar(.gz) file a class, or one such file with a folder a class. Given again, it goes on.

    --image_size   side to which images are cut and resized; without it all must have one size
    --shard_size   images a file, 1000
    --class_names  the classes to take, in the order of their labels: cat,dog; or a list of classes, as in generate:
                   cifar10, cifar100, imagenet1k, tfds:BUILDER, or a file with a class a line. What the list calls a
                   class goes along: the folder n01440764 is the class n01440764, and the card calls it a tench
    --licence      of the images, for their card, as the hub writes it: cc-by-4.0
"""

from absl import flags

from jaxcil.data.class_names.class_list import KNOWN, TFDS, ClassEntry, read_class_list
from jaxcil.errors import InputError
from jaxcil.workdir import files
from jaxcil.workdir.record import locked


def main(arguments: list[str]) -> None:
    """Imports and prints where the images are."""
    values = flags.FlagValues()
    values.set_gnu_getopt()  # the source may stand before the flags
    flags.DEFINE_string("workdir", None, "", flag_values=values)
    flags.DEFINE_integer("image_size", None, "", flag_values=values)
    flags.DEFINE_integer("shard_size", 1000, "", flag_values=values)
    flags.DEFINE_string("class_names", None, "", flag_values=values)
    flags.DEFINE_string("licence", None, "", flag_values=values)
    try:
        sources = values(["jaxcil", *arguments])[1:]
    except flags.Error as error:
        raise InputError(str(error)) from None
    if len(sources) != 1:
        raise InputError(f"expected one source of images, got {' '.join(sources) or 'none'}")
    if values.workdir is None:
        raise InputError("--workdir is missing")
    classes = [] if values.class_names is None else _classes(values.class_names)
    names = [entry.name for entry in classes]
    from jaxcil.synthesis.dataset.prompts import listed_phrases
    from jaxcil.synthesis.imports.import_images import (
        import_images,  # here, so that a mistyped flag is told at once
    )

    with locked(values.workdir, "import-images"):
        manifest = import_images(
            values.workdir,
            sources[0],
            image_size=values.image_size,
            shard_size=values.shard_size,
            class_names=names or None,
            # of names alone nothing is to be said, and none is prompted
            phrases=listed_phrases(classes, names) if _is_list(values.class_names) else None,
            licence=values.licence,
        )
    print(f"{manifest.requests.total} images of {len(manifest.class_names)} classes: {values.workdir}")
    print(f"{values.workdir}/contact_sheet.png")


def _classes(value: str) -> list[ClassEntry]:
    """Classes out of a list of them, or names divided by commas."""
    if _is_list(value):
        return [*read_class_list(value)]
    return [ClassEntry(name.strip(), (name.strip(),), "") for name in value.split(",")]


def _is_list(value: str | None) -> bool:
    return value is not None and (value in KNOWN or value.startswith(TFDS) or files.is_file(value))
