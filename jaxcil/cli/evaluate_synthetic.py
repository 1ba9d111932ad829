"""jaxcil evaluate-synthetic --config=FILE --config.synthetic=DATA [--config.field=value] --workdir=DIR

Measures how many synthetic images a classifier of real images recognises, how well a classifier trained on them does
on real ones, how far they are from real ones in features, and which of them are copies: over all classes and for each,
next to the same figures of real images. Prints tables, and writes worth.json and nearest.png into DIR. Started again,
it resumes.
"""

import pathlib

from jaxcil.cli.arguments import parse
from jaxcil.workdir import record


def main(arguments: list[str]) -> None:
    """Evaluates, prints the figures and writes them."""
    config, others = parse(arguments, "jaxcil.evaluation.worth.settings:worth_defaults", workdir=None)
    from jaxcil.data.datasets import load  # not before the flags are checked
    from jaxcil.evaluation.worth import pictures, worth
    from jaxcil.evaluation.worth.settings import worth_settings
    from jaxcil.evaluation.worth.tables import worth_text
    from jaxcil.extractors.saved import load_features
    from jaxcil.synthesis.dataset import filters
    from jaxcil.workdir.record import locked, pin_config, pin_data
    from jaxcil.workdir.settings import as_dict

    settings, workdir = worth_settings(config), pathlib.Path(others["workdir"])
    assert settings.synthetic
    assert settings.dataset
    with locked(workdir):
        features = load_features(settings.extractor) if settings.extractor else None
        real = [
            load(settings.dataset, split, settings.image_size, settings.data_dir)
            for split in ("train", "test", settings.generator_split)
        ]
        sets = worth.joined(filters.read(settings.synthetic, settings.filter), *real)
        pin_config(as_dict(settings), workdir)
        pin_data(workdir, **sets._asdict())
        by_real, by_synthetic = worth.judges(sets, settings.judge, workdir / "judges")
        figures = worth.evaluate(
            sets,
            by_real,
            by_synthetic,
            features or by_real.features,
            duplicate_threshold=settings.duplicate_threshold,
            seed=settings.judge.seed,
        )
        results = worth.results(settings, figures)
        record.write_checked_json(workdir / "worth.json", results)
        pictures.nearest_sheet(sets, results, workdir / "nearest.png")
    print(worth_text(results))
    print(f"{workdir}/worth.json\n{workdir}/nearest.png")
