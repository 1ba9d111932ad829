"""Whole methods of class-incremental learning; `load` reads what a finished run left of one."""

from jaxcil.learners.saved import load as load
