"""What the tests of data sets share."""

import pathlib

import pytest


@pytest.fixture(scope="session")
def contents():
    """The bytes of all files of a directory by their names; not of folders, which are no part of a set."""

    def read(directory):
        paths = sorted(pathlib.Path(directory).iterdir())
        return {path.name: path.read_bytes() for path in paths if path.is_file()}

    return read
