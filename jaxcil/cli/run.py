"""jaxcil run --config=FILE [--config.field=value] --workdir=DIR

Trains learners on one task after the other, with the auxiliary images that each variant adds, and writes results.json,
report.html and pictures into DIR. Run again, it resumes; with more heads, variants, learners or seeds, it adds what
is missing. FILE is a Python file, the name of a shipped one, or the config.json of another run.
"""

from jaxcil.cli.arguments import parse
from jaxcil.workdir.record import locked


def main(arguments: list[str]) -> None:
    """Runs, and prints the table and the path of the report."""
    config, others = parse(arguments, "jaxcil.experiment.settings:defaults", workdir=None)
    from jaxcil import experiment  # here, so that a mistyped flag is refused at once
    from jaxcil.evaluation.reports import tables
    from jaxcil.experiment.settings import resolve
    from jaxcil.parallel import mesh

    settings = resolve(config)
    if settings.synthetic.path is not None or settings.synthetic.model == "digits":
        mesh.one_device_per_core()  # each would have a copy of a larger generator
    with locked(others["workdir"]):
        results = experiment.run(settings, others["workdir"])
    print(tables.summary_table(results))
    print(f"\n{others['workdir']}/report.html")
