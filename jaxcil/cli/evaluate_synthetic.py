"""jaxcil evaluate-synthetic --config=FILE --config.synthetic=DATA [--config.field=value] --workdir=DIR

Says how many synthetic images a classifier of real images recognises, how well a classifier trained on them does on
real ones, how far they lie from real ones in features, and which are copies: over all, a class, and beside what real
images give. Prints tables; writes worth.json, worth.png and nearest.png into DIR. Given again, it goes on.
"""

from jaxcil.cli.main import parse
from jaxcil.errors import InputError, check_counts
from jaxcil.workdir import files


def main(arguments: list[str]) -> None:
    """Evaluates, prints the figures and writes them."""
    config, others = parse(arguments, workdir=None)
    for field, wanted in (("synthetic", "a set that `jaxcil generate` wrote"), ("dataset", "real images")):
        if config[field] is None:
            raise InputError(f"--config.{field} is missing; give the folder of {wanted}")
    if not config.near >= 0:
        raise InputError(f"near must not be negative, got {config.near}")
    workdir = files.writable_directory(others["workdir"])
    check_counts(config.judge, "judge", "blocks", "steps", "batch_size")
    from jaxcil.data.datasets import load
    from jaxcil.evaluation.worth import pictures, worth
    from jaxcil.evaluation.worth.judge import Judge
    from jaxcil.evaluation.worth.tables import worth_text
    from jaxcil.extractors.saved import load_features
    from jaxcil.synthesis.dataset import filters
    from jaxcil.workdir.record import locked, pin_config, pin_data

    with locked(workdir):
        features = load_features(config.extractor) if config.extractor else None
        real = [
            load(config.dataset, split, config.image_size, config.data_dir)
            for split in ("train", "test", config.seen)
        ]
        sets = worth.joined(filters.read(config.synthetic, config.filter), *real)
        pin_config(config, workdir)
        pin_data(workdir, **sets._asdict())
        judge = Judge(**config.judge)
        by_real, by_synthetic = worth.judges(sets, judge, workdir / "judges")
        figures = worth.evaluate(
            sets, by_real, by_synthetic, features or by_real.features, near=config.near, seed=judge.seed
        )
        results = worth.results(config, figures)
        files.write_json(workdir / "worth.json", results)
        pictures.worth_picture(results, workdir / "worth.png")
        pictures.nearest_sheet(sets, results, workdir / "nearest.png")
    print(worth_text(results))
    print("\n".join(f"{workdir}/{name}" for name in ("worth.json", "worth.png", "nearest.png")))
