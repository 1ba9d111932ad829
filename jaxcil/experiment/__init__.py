"""Runs: what `jaxcil run` does, for Python."""

from jaxcil.experiment.run import run as run
