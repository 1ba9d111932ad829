"""jaxcil import-images SOURCE --workdir=DIR [--image_size=N] [--shard_size=N] [--class_names=NAMES] [--licence=L]

Makes a data set of the kind that `jaxcil generate` writes from images of any other tool. SOURCE is a folder with a
folder, a zip or a tar(.gz) file per class, or one such file with a folder per class. Run again, the command resumes.

    --image_size   side to which images are cut and resized; without it all must have the same size
    --shard_size   images per file, 1000
    --class_names  the classes to take, in the order of their labels: cat,dog; or a list of classes, as in generate:
                   cifar10, cifar100, imagenet1k, tfds:BUILDER, or a file with a class per line. The list's names are
                   kept: the folder n01440764 is the class n01440764, and the card calls it a tench
    --licence      of the images, for their card, as the hub writes it: cc-by-4.0
"""

from jaxcil.cli.arguments import read_flags
from jaxcil.data.class_names.class_list import KNOWN, TFDS, ClassEntry, read_class_list
from jaxcil.workdir import files
from jaxcil.workdir.record import locked


def main(arguments: list[str]) -> None:
    """Imports and prints where the images are."""
    flags = read_flags(
        arguments,
        {"source": "one source of images"},
        workdir=None,
        image_size=int,
        shard_size=1000,
        class_names=str,
        licence=str,
    )
    classes = [] if flags["class_names"] is None else _classes(flags["class_names"])
    names = [entry.name for entry in classes]
    from jaxcil.synthesis.dataset.prompts import listed_phrases
    from jaxcil.synthesis.imports.import_images import (
        import_images,  # here, so that a mistyped flag is reported at once
    )

    with locked(flags["workdir"], "import-images"):
        manifest = import_images(
            flags["workdir"],
            flags["source"],
            image_size=flags["image_size"],
            shard_size=flags["shard_size"],
            class_names=names or None,
            # plain names need no phrases
            phrases=listed_phrases(classes, names) if _is_list(flags["class_names"]) else None,
            licence=flags["licence"],
        )
    print(f"{manifest.requests.total} images of {len(manifest.class_names)} classes: {flags['workdir']}")
    print(f"{flags['workdir']}/contact_sheet.png")


def _classes(value: str) -> list[ClassEntry]:
    """The classes of a list, or names separated by commas."""
    if _is_list(value):
        return [*read_class_list(value)]
    return [ClassEntry(name.strip(), (name.strip(),), "") for name in value.split(",")]


def _is_list(value: str | None) -> bool:
    return value is not None and (value in KNOWN or value.startswith(TFDS) or files.is_file(value))
