"""jaxcil generate --config=FILE [--config.field=value] --workdir=DIR

Draws a labelled image set from class names into DIR: ArrayRecord shards that TFDS reads, a manifest, a card and a
contact sheet. Run again, the command draws what is missing; with more classes or more images per class, it extends the
set. Run several times at once, on one or several hosts, the processes share the work; --config.worker=i/n if the hosts
do not see each other's locks. Classes are those of class_names, or of a class_list: cifar10, cifar100, imagenet1k,
tfds:BUILDER, or a file with a class per line, synonyms after commas and a definition after a semicolon.
"""

import dataclasses

from jaxcil.cli.arguments import parse
from jaxcil.workdir.record import undone_if_refused
from jaxcil.workdir.settings import resolve


def main(arguments: list[str]) -> None:
    """Generates and prints where the images are."""
    config, others = parse(arguments, "jaxcil.synthesis.drawing.settings:defaults", workdir=None)
    from jaxcil.synthesis.dataset import store  # here, so that a mistyped flag is refused at once
    from jaxcil.synthesis.drawing.models import generate_by_name
    from jaxcil.synthesis.drawing.settings import GenerateSettings

    settings = resolve(GenerateSettings, config)
    options = {item.name: getattr(settings, item.name) for item in dataclasses.fields(settings)}
    class_names = options.pop("class_names")
    with undone_if_refused(others["workdir"]):
        manifest = generate_by_name(
            others["workdir"], None if settings.class_list else class_names, **options
        )
    if missing := store.missing_shards(others["workdir"], manifest):
        print(
            f"{len(missing)} of {len(manifest.requests.shards)} shards are being drawn by other processes, or are left "
            f"to other workers: {others['workdir']}"
        )
        return
    print(f"{manifest.requests.total} images of {len(manifest.class_names)} classes: {others['workdir']}")
    print(f"{others['workdir']}/contact_sheet.png")
