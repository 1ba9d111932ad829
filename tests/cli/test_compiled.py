"""Compiled programs are kept between processes, unless the user has said otherwise or the folder cannot be written."""

import os
import subprocess
import sys
import types

import jax
import pytest

from jaxcil.cli import compiled
from jaxcil.cli.compiled import FOLDER, THRESHOLD, keep_compiled_programs

PROGRAM = """
import os
from jaxcil.cli.compiled import keep_compiled_programs
keep_compiled_programs()
import sys
assert "jax" not in sys.modules
import jax
print(jax.config.jax_compilation_cache_dir)
print(jax.config.jax_persistent_cache_min_compile_time_secs)
"""


@pytest.fixture
def unset(monkeypatch):
    """An environment in which nothing is set; what a test sets is undone."""
    for name in (FOLDER, THRESHOLD, "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.fixture
def bare(unset, monkeypatch):
    """A process in which jax is not imported either."""
    monkeypatch.setattr(compiled, "sys", types.SimpleNamespace(modules={}))


def test_they_are_kept_in_the_cache_of_the_user(bare, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    keep_compiled_programs()
    folder = tmp_path / ".cache/jaxcil/compiled"
    assert os.environ[FOLDER] == str(folder)
    assert os.environ[THRESHOLD] == "0.1"
    assert list(folder.iterdir()) == []
    assert folder.stat().st_mode & 0o077 == 0  # whoever writes into it runs code


def test_the_folder_of_caches_may_be_another(bare, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    keep_compiled_programs()
    assert os.environ[FOLDER] == str(tmp_path / "jaxcil/compiled")


@pytest.mark.parametrize("folder", ["/somewhere", ""])
def test_a_folder_that_the_user_set_is_left(bare, monkeypatch, tmp_path, folder):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv(FOLDER, folder)
    keep_compiled_programs()
    assert os.environ[FOLDER] == folder
    assert THRESHOLD not in os.environ
    assert list(tmp_path.iterdir()) == []


def test_a_threshold_that_the_user_set_is_left(bare, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv(THRESHOLD, "3")
    keep_compiled_programs()
    assert os.environ[THRESHOLD] == "3"


@pytest.mark.parametrize("cache", ["/dev/null", "/proc", "relative"])
def test_a_folder_that_cannot_be_written_is_no_error_and_no_cache(bare, monkeypatch, capsys, cache):
    monkeypatch.setenv("XDG_CACHE_HOME", cache)
    keep_compiled_programs()
    assert FOLDER not in os.environ
    assert capsys.readouterr() == ("", "")


def test_a_user_without_a_home_has_no_cache(bare, monkeypatch, tmp_path):
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(
        compiled.os.path, "expanduser", lambda path: path
    )  # no entry in the password file either
    monkeypatch.chdir(tmp_path)
    keep_compiled_programs()
    assert FOLDER not in os.environ
    assert list(tmp_path.iterdir()) == []


def test_settings_of_a_jax_that_is_imported_are_left(unset, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = jax.config.jax_compilation_cache_dir
    assert before is not None
    keep_compiled_programs()
    assert jax.config.jax_compilation_cache_dir == before
    assert FOLDER not in os.environ


def test_a_jax_that_is_imported_without_a_cache_gets_one(unset, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    before = jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs
    try:
        jax.config.update("jax_compilation_cache_dir", None)
        keep_compiled_programs()
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "jaxcil/compiled")
        assert jax.config.jax_persistent_cache_min_compile_time_secs == 0.1
    finally:
        jax.config.update("jax_compilation_cache_dir", before[0])
        jax.config.update("jax_persistent_cache_min_compile_time_secs", before[1])


def test_jax_takes_the_folder_without_being_imported_for_it(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name not in (FOLDER, THRESHOLD)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment | {"XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == [str(tmp_path / "jaxcil/compiled"), "0.1"], done.stderr
    assert done.stderr == ""
