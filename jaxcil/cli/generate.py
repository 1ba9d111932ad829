"""jaxcil generate --config=FILE [--config.field=value] --workdir=DIR

Draws a labelled image set from class names into DIR: ArrayRecord shards that TFDS reads, a manifest, a card and a
contact sheet. Given again, it makes what is missing; with more classes or images a class, it extends the set. Given
several times at once, here or on other hosts, the processes share the work; --config.share=i/n where they cannot.
Classes are those of class_names, or of a class_list: cifar10, cifar100, imagenet1k, tfds:BUILDER, or a file with a
class a line, synonyms behind commas and a definition behind a semicolon.
"""

from jaxcil.cli.main import parse


def main(arguments: list[str]) -> None:
    """Generates and prints where the images are."""
    config, others = parse(arguments, workdir=None)
    from jaxcil.synthesis.dataset import store  # here, so that a mistyped flag is told at once
    from jaxcil.synthesis.drawing.models import generate_by_name

    settings = config.to_dict()
    class_names = settings.pop("class_names")
    if settings.get("class_list"):  # takes their place
        class_names = None
    manifest = generate_by_name(others["workdir"], class_names, **settings)
    if missing := store.missing_shards(others["workdir"], manifest):
        print(
            f"{len(missing)} of {len(manifest.requests.shards)} shards are being drawn by other processes, or are left "
            f"to their shares: {others['workdir']}"
        )
        return
    print(f"{manifest.requests.total} images of {len(manifest.class_names)} classes: {others['workdir']}")
    print(f"{others['workdir']}/contact_sheet.png")
