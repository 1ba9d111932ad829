"""jaxcil filter SET --config=FILE [--config.field=value] --name=NAME [--list]

Trains a classifier on real images, keeps the images of a synthetic data set that it recognises, or the best share of
each class, and writes which into SET/filters/NAME.json; no image is taken away. Prints the share kept of each class.
NAME.png beside it shows the dropped images, the lowest scores first. `jaxcil run --config.synthetic.filter=NAME`
leaves them out.

    --list    prints every dropped image, with its score and what it was taken for

Without --config it shows the filter of that name.
"""

from absl import flags

from jaxcil.cli.main import parse
from jaxcil.errors import InputError
from jaxcil.workdir.record import locked


def main(arguments: list[str]) -> None:
    """Judges if there is a config, and prints what the filter keeps."""
    if not arguments or arguments[0].startswith("-"):
        raise InputError("expected a data set first: jaxcil filter SET --config=FILE --name=NAME")
    directory, *rest = arguments
    wants_list = "--list" in rest
    rest = [argument for argument in rest if argument != "--list"]
    judging = any(argument.partition("=")[0] == "--config" for argument in rest)
    config, others = parse(rest, name=None) if judging else (None, {"name": _name(rest)})
    from jaxcil.evaluation.worth.filtering import judged  # here, so that a mistyped flag is told at once
    from jaxcil.synthesis.dataset import card, filter_report, filters
    from jaxcil.synthesis.dataset.manifest import read_manifest

    manifest, name = read_manifest(directory), others["name"]
    if config is None:
        found = filters.read_filter(directory, name)
    else:
        filters.check_name(name)
        found = judged(directory, config)
        with locked(directory):
            print(filters.write_filter(directory, name, found))
            if not found.kept.all():
                print(filter_report.write_dropped_sheet(directory, name, found))
            card.write_card(directory)
    print(filter_report.share_table(manifest, found))
    if wants_list:
        print(filter_report.dropped_list(manifest, found))


def _name(arguments: list[str]) -> str:
    """--name alone."""
    values = flags.FlagValues()
    flags.DEFINE_string("name", None, "", flag_values=values)
    try:
        left = values(["jaxcil", *arguments])[1:]
    except flags.Error as error:
        raise InputError(str(error)) from None
    if left:
        raise InputError(
            f"unexpected {' '.join(left)!r}; the data set comes first, and all else starts with --"
        )
    if values.name is None:
        raise InputError("--name is missing")
    return values.name
