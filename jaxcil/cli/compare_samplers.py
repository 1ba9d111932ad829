"""jaxcil compare-samplers --config=FILE [--config.field=value] --workdir=DIR

Measures how good samples are at how many denoiser calls, for every solver, on data with exact denoisers and on a
text-to-image model, and how fast errors fall. Writes samplers.json, quality.png and orders.png into DIR and prints
tables with the best sampler of each. Given again, it measures what is missing.
"""

from jaxcil.cli.main import parse
from jaxcil.workdir import files
from jaxcil.workdir.record import Timing, locked, pin_config


def main(arguments: list[str]) -> None:
    """Compares, and prints tables and where the pictures are."""
    config, others = parse(arguments, workdir=None)
    with locked(others["workdir"]):
        _compare(config, files.writable_directory(others["workdir"]))


def _compare(config, workdir) -> None:
    from jaxcil.evaluation.samplers import comparison, pictures  # here: a mistyped flag is told at once
    from jaxcil.evaluation.samplers.tables import comparison_text
    from jaxcil.workdir.progress import Progress

    comparison.check(config)
    pin_config(config, workdir)
    parts = comparison.parts(config)
    measured = {}
    timing = Timing(workdir / "timing.json")
    total, done = sum(part.runs for part in parts), 0
    with Progress("samplers", total, "runs") as progress:
        for part in parts:
            path = workdir / "parts" / f"{part.name}.json"

            def tell(name: str = part.name) -> None:
                nonlocal done
                done += 1
                progress.reach(done, name)

            if path.exists():
                done += part.runs
            else:
                with timing.of(part.name):
                    files.write_json(path, part.measure(measured, tell))
            measured[part.name] = files.read_json(path)
    results = comparison.results(config, measured)
    files.write_json(workdir / "samplers.json", results)
    pictures.quality_curves(results, workdir / "quality.png")
    if results["orders"]:
        pictures.order_curves(results, workdir / "orders.png")
    print(comparison_text(results))
    print(f"\n{workdir}/samplers.json and quality.png" + (" and orders.png" if results["orders"] else ""))
