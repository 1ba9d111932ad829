"""jaxcil report RUN RUN ... [--out=DIR]

Puts finished runs side by side: workdirs of `jaxcil run`, of several training seeds, class orders, scenarios or
settings. Writes report.html (one page with tables and curves), report.md (the tables) and report.csv (every value, one
a line) into DIR, by default report/, and prints the tables. Runs whose configs differ stand under the fields that
differ, or under their folders where these are many; a head under other options is a method of its own. The spread over
training seeds and that over class orders are told apart.
"""

from absl import flags

from jaxcil.errors import InputError


def main(arguments: list[str]) -> None:
    """Reads the runs, writes the report, and prints its tables and where it is."""
    folders, out = _parsed(arguments)
    from jaxcil.evaluation.reports import finished_runs, page  # here, so that a mistyped flag is told at once

    runs = [finished_runs.read_run(folder) for folder in folders]
    print(page.write_runs_report(out, runs))
    print(f"{out}/report.html, report.md and report.csv")


def _parsed(arguments: list[str]) -> tuple[list[str], str]:
    """The folders of the runs, and --out."""
    values = flags.FlagValues()
    values.set_gnu_getopt(True)
    flags.DEFINE_string("out", "report", "", flag_values=values)
    try:
        folders = values(["jaxcil report", *arguments])[1:]
    except flags.Error as error:
        raise InputError(str(error)) from None
    if not folders:
        raise InputError("expected the workdirs of finished runs; write jaxcil report RUN RUN ...")
    if not values.out:
        raise InputError("--out is empty; give a folder for the report")
    return folders, values.out
