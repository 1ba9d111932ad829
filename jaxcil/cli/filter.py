"""jaxcil filter SET --config=FILE [--config.field=value] --name=NAME [--list]

Trains a classifier on real images, keeps the images of a synthetic data set that it recognises, or the best fraction of
each class, and writes which into SET/filters/NAME.json; no image is deleted. Prints the fraction kept of each class.
NAME.png next to it shows the dropped images, lowest scores first. `jaxcil run --config.synthetic.filter=NAME` omits
them.

    --list    prints every dropped image, with its score and the class it was taken for

Without --config it shows the filter NAME.
"""

from jaxcil.cli.arguments import parse, read_flags
from jaxcil.workdir.record import locked


def main(arguments: list[str]) -> None:
    """Judges if there is a config, and prints what the filter keeps."""
    places, flags = {"directory": "one data set"}, {"name": None, "list": False}
    if any(argument.startswith(("--config", "--help-config")) for argument in arguments):
        config, others = parse(arguments, "jaxcil.evaluation.worth.settings:filter_defaults", places, **flags)
    else:
        config, others = None, read_flags(arguments, places, **flags)
    from jaxcil.evaluation.worth.filtering import judged  # here, so that a mistyped flag is refused at once
    from jaxcil.evaluation.worth.settings import filter_settings
    from jaxcil.synthesis.dataset import card, filter_report, filters
    from jaxcil.synthesis.dataset.manifest import read_manifest

    directory, name = others["directory"], others["name"]
    settings = None if config is None else filter_settings(config)
    manifest = read_manifest(directory)
    if settings is None:
        chosen = filters.read_filter(directory, name)
    else:
        filters.check_name(name)
        chosen = judged(directory, settings)
        with locked(directory):
            print(filters.write_filter(directory, name, chosen))
            if not chosen.kept.all():
                print(filter_report.write_dropped_sheet(directory, name, chosen))
            card.write_card(directory)
    print(filter_report.fraction_table(manifest, chosen))
    if others["list"]:
        print(filter_report.dropped_list(manifest, chosen))
