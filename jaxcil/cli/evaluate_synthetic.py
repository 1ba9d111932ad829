"""jaxcil evaluate-synthetic --config=FILE --config.synthetic=DATA [--config.field=value] --workdir=DIR

Says how many synthetic images a classifier of real images recognises, how well a classifier trained on them does on
real ones, and how near they lie to what their generator saw. Writes worth.json and nearest.png into DIR.
"""

import json

from jaxcil import files
from jaxcil.cli.main import parse
from jaxcil.errors import InputError
from jaxcil.run_settings import check_counts


def main(arguments: list[str]) -> None:
    """Evaluates, prints the figures and writes them."""
    config, others = parse(arguments, workdir=None)
    if config.synthetic is None:
        raise InputError("--config.synthetic is missing; give a folder that `jaxcil generate` wrote")
    workdir = files.writable_directory(others["workdir"])
    check_counts(config.judge, "judge", "blocks", "steps", "batch_size")
    from jaxcil.data.datasets import ImageSet, load
    from jaxcil.evaluation import synthetic
    from jaxcil.synthesis import store

    images = ImageSet(*store.read(config.synthetic))
    train, test, seen = (
        load(config.dataset, s, data_dir=config.data_dir) for s in ("train", "test", config.seen)
    )
    files.write_json(workdir / "config.json", json.loads(config.to_json()))
    figures = synthetic.evaluate(images, train, test, seen, synthetic.Judge(**config.judge))
    synthetic.nearest_sheet(images, seen, workdir / "nearest.png")
    files.write_json(workdir / "worth.json", figures)
    print(json.dumps(figures, indent=2))
