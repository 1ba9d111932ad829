"""jaxcil report RUN RUN ... [--out=DIR]

Compares finished runs, the workdirs of `jaxcil run`, over training seeds, class orders, scenarios or settings. Writes
report.html (one page with tables and curves), report.md (the tables) and report.csv (one value per line) into DIR, by
default report/, and prints the tables. Runs whose configs differ are listed under the fields that differ, or under
their folders where there are many such fields; a head or learner with other options is a method of its own. The spread
over training seeds and the spread over class orders are separate.
"""

from jaxcil.cli.arguments import read_flags
from jaxcil.errors import InputError


def main(arguments: list[str]) -> None:
    """Reads the runs, writes the report, and prints its tables and its path."""
    folders, out = _parsed(arguments)
    from jaxcil.evaluation.reports import (
        finished_runs,
        page,
    )  # here, so that a mistyped flag is refused at once

    runs = [finished_runs.read_run(folder) for folder in folders]
    print(page.write_report(out, runs))
    print(f"{out}/report.html, report.md and report.csv")


def _parsed(arguments: list[str]) -> tuple[list[str], str]:
    """The folders of the runs, and --out."""
    places = {"runs": "the workdirs of finished runs"}
    flags = read_flags(arguments, places, repeated=True, out="report")
    if not flags["out"]:
        raise InputError("--out is empty; give a folder for the report")
    return flags["runs"], flags["out"]
