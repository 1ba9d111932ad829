"""jaxcil run --config=FILE [--config.field=value] --workdir=DIR

Trains an extractor on the first classes, with and without images of the classes to come, runs heads on it over
all tasks, and writes results.json, report.html and pictures into DIR. Given again, it goes on where it was.
FILE is a Python file, the name of a shipped one, or the config.json of another run.
"""

from jaxcil.cli.main import parse
from jaxcil.workdir.record import locked


def main(arguments: list[str]) -> None:
    """Runs and prints the table and where the report is."""
    from jaxcil.experiment.settings import defaults  # here and below, so that --help comes at once

    config, others = parse(arguments, defaults(), workdir=None)
    from jaxcil.evaluation.reports import report
    from jaxcil.experiment import run
    from jaxcil.parallel import mesh

    if config.synthetic.path is not None or config.synthetic.model == "digits":
        mesh.one_device_per_core()  # each would have a copy of a larger generator
    with locked(others["workdir"]):
        results = run.run(config, others["workdir"])
    print(report.summary_table(results))
    print(f"\n{others['workdir']}/report.html")
