"""Compiled programs are kept between two runs of the tests; see conftest.py."""

import os
import time

from jax._src.compilation_cache import compress_executable


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_run_begins_with_the_whole_programs_of_the_last(programs, tmp_path):
    begin, keep = programs
    own = begin(tmp_path)
    program = compress_executable(b"a program" * 100)
    (own / "whole-cache").write_bytes(program)
    (own / "cut-cache").write_bytes(program[:-3])
    (own / "empty-cache").touch()
    keep(own, tmp_path)
    assert names(begin(tmp_path)) == ["whole-cache"]


def test_runs_at_the_same_time_do_not_see_what_the_other_writes(programs, tmp_path):
    begin, keep = programs
    one, other = begin(tmp_path), begin(tmp_path)
    (one / "one-cache").write_bytes(compress_executable(b"one"))
    (other / "one-cache").write_bytes(compress_executable(b"the same"))
    assert names(one) == names(other) == ["one-cache"]
    keep(one, tmp_path)
    keep(other, tmp_path)
    assert names(begin(tmp_path)) == ["one-cache"]


def test_old_programs_and_folders_of_killed_runs_are_removed(programs, tmp_path):
    begin, keep = programs
    killed, own = begin(tmp_path), begin(tmp_path)
    (own / "old-cache").write_bytes(compress_executable(b"old"))
    keep(own, tmp_path)
    month = time.time() - 30 * 86400
    for path in (killed, tmp_path / "programs" / "old-cache"):
        os.utime(path, (month, month))
    assert names(begin(tmp_path)) == []
    assert not killed.exists()
