"""jaxcil compare-samplers --config=FILE [--config.field=value] --workdir=DIR

Measures how good samples are at how many denoiser calls, for every solver, on data with exact denoisers and on a
text-to-image model, and how fast errors fall. Writes samplers.json, quality.png and orders.png into DIR and prints
tables with the best sampler of each. Started again, it measures what is missing.
"""

import pathlib
from typing import Any

from jaxcil.cli.arguments import parse
from jaxcil.workdir import files
from jaxcil.workdir.progress import Progress
from jaxcil.workdir.record import Timing, locked, pin_config, read_checked_json, write_checked_json
from jaxcil.workdir.settings import as_dict


def main(arguments: list[str]) -> None:
    """Compares, and prints tables and where the pictures are."""
    config, others = parse(arguments, "jaxcil.evaluation.samplers.settings:comparison_defaults", workdir=None)
    from jaxcil.evaluation.samplers import comparison, pictures, tables  # not before the flags are checked
    from jaxcil.evaluation.samplers.settings import comparison_settings

    settings = comparison_settings(config)
    workdir = pathlib.Path(others["workdir"])
    with locked(workdir):
        pin_config(as_dict(settings), workdir)
        results = comparison.results(settings, _measured(comparison.parts(settings), workdir))
        files.write_json(workdir / "samplers.json", results)
        written = ["samplers.json", *pictures.write_pictures(results, workdir)]
    print(tables.comparison_text(results))
    print("\n" + "\n".join(f"{workdir}/{name}" for name in written))


def _measured(parts: list[Any], workdir: pathlib.Path) -> dict[str, Any]:
    """The values of all parts by name, of which those on disk are not measured again."""
    measured: dict[str, Any] = {}
    timing = Timing(workdir / "timing.json")
    done = 0
    with Progress("samplers", sum(part.runs for part in parts), "runs") as progress:
        for part in parts:
            path = workdir / "parts" / f"{part.name}.json"

            def notify(name: str = part.name) -> None:
                nonlocal done
                done += 1
                progress.reach(done, name)

            value = read_checked_json(path)
            if value is None:
                with timing.of(part.name):
                    value = part.measure(measured, notify)
                write_checked_json(path, value)
            else:
                done += part.runs
            measured[part.name] = value
    return measured
