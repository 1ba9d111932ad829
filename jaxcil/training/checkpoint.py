"""Training states on disk, through Orbax: the only file that imports it."""

import contextlib
import hashlib
import logging
import os
import pathlib
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from jaxcil.workdir import files

# In the folder of a state, as `sha256sum` writes it; `sha256sum -c SHA256SUMS` there checks it too.
SUMS = "SHA256SUMS"
KEPT = 2
UNFINISHED = "*.orbax-checkpoint-tmp*"


class Saved(NamedTuple):
    """A state that was read."""

    number: int  # of the state, as it was saved
    tree: Any
    cursor: Any


class Checkpoints:
    """The newest two states of one piece of work, in one directory; a context manager.

    A state is whole or not there: Orbax renames what it wrote aside, and the checksums of its files come last. One
    that is damaged is named on standard error and removed when the directory is opened, and work resumes from the
    one before, to the same bits; or from the beginning, if that is damaged too.
    """

    def __init__(self, directory: str | os.PathLike):
        """Opens or makes the directory; it has one writer at a time."""
        self._directory = pathlib.Path(directory).absolute()
        options = ocp.CheckpointManagerOptions(max_to_keep=KEPT, enable_async_checkpointing=False)
        with files.storage_errors(self._directory):
            self._remove_unfinished()
            _remove_damaged(self._directory)
            self._manager = ocp.CheckpointManager(self._directory, options=options)

    def __enter__(self) -> "Checkpoints":
        """Orbax has threads that must end before the interpreter does."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Closes them."""
        self._manager.close()

    @property
    def done(self) -> int:
        """Number of the newest state, 0 without one."""
        return self._manager.latest_step() or 0

    def save(self, number: int, tree: Any, cursor: Any = None) -> None:
        """Keeps a state, and drops all but the one before.

        Args:
          number: larger than that of every state saved before.
          tree: a pytree of arrays.
          cursor: JSON values that say how far the work is.

        Raises:
          InputError: the disk is full, read-only or broken; the states before are kept.
        """
        items = {
            "state": ocp.args.StandardSave(tree),
            "about": ocp.args.JsonSave({"leaves": _leaves(tree), "cursor": cursor}),
        }
        folder = self._directory / str(number)
        with files.storage_errors(folder), _without_tracebacks():
            try:
                self._manager.save(number, args=ocp.args.Composite(**items))
                self._manager.wait_until_finished()
            except BaseException:
                self._remove_unfinished()
                raise
            files.write(folder / SUMS, "".join(f"{digest}  {name}\n" for name, digest in _digests(folder)))

    def restore(self, like: Any) -> tuple[int, Any] | None:
        """The number and the tree of the newest state, or None; as in `resume`."""
        saved = self.resume(lambda cursor: like)
        return None if saved is None else (saved.number, saved.tree)

    def resume(self, like: Callable[[Any], Any]) -> Saved | None:
        """The newest state, or None.

        Args:
          like: from a cursor to a tree of the structure that was saved with it; its shapes, dtypes and shardings are
            those of the result, and numpy arrays stay numpy arrays.

        Raises:
          ValueError: a stored array has another shape or dtype, which Orbax would cast without a word.
        """
        number = self._manager.latest_step()
        if number is None:
            return None
        about = self._manager.restore(number, args=ocp.args.Composite(about=ocp.args.JsonRestore()))["about"]
        tree = like(about["cursor"])
        expected, stored = _leaves(tree), about["leaves"]
        for name in {**expected, **stored}:
            if expected.get(name) != stored.get(name):
                raise ValueError(
                    f"{self._directory / str(number)} holds a state of another structure: at {name} expected "
                    f"{expected.get(name, 'nothing')}, got {stored.get(name, 'nothing')}"
                )
        target = jax.tree.map(_target, tree)
        restored = self._manager.restore(
            number, args=ocp.args.Composite(state=ocp.args.StandardRestore(target))
        )
        return Saved(number, restored["state"], about["cursor"])

    def _remove_unfinished(self) -> None:
        """Removes what a killed process or a full disk left of a state."""
        for folder in self._directory.glob(UNFINISHED):
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _without_tracebacks() -> Iterator[None]:
    """Keeps Orbax's threads from logging what they raise: it is raised here, too."""
    logger = logging.getLogger("absl")
    filtered = lambda record: "_SignalingThread" not in record.getMessage()  # noqa: E731
    logger.addFilter(filtered)
    try:
        yield
    finally:
        logger.removeFilter(filtered)


def _remove_damaged(directory: pathlib.Path) -> None:
    """Removes the newest states up to one that is whole, and says so."""
    numbers = sorted(
        (int(path.name) for path in directory.glob("[0-9]*") if path.name.isdigit()), reverse=True
    )
    removed = []
    for number in numbers:
        folder = directory / str(number)
        fault = _fault(folder)
        if not fault:
            resumed = f"work resumes from the state before it, {folder}"
            break
        removed.append(f"{folder} is damaged ({fault})")
        shutil.rmtree(folder)
    else:
        resumed = "work starts again from the beginning, since no other state is left"
    if removed:
        print(f"jaxcil: {'; '.join(removed)}: removed; {resumed}", file=sys.stderr, flush=True)


def _fault(folder: pathlib.Path) -> str:
    """What is wrong with the files of a state, in words; nothing if they are as they were written."""
    sums = folder / SUMS
    if not sums.is_file():
        return f"{SUMS} is missing: it was not saved to its end"
    computed, listed = dict(_digests(folder)), {}
    for line in sums.read_text(errors="replace").splitlines():
        digest, _, name = line.partition("  ")
        listed[name] = digest
    for name in sorted({*computed, *listed}):
        if name not in listed:
            return f"{SUMS} lacks {name}"
        if name not in computed:
            return f"{name!r} of {SUMS} is missing"
        if computed[name] != listed[name]:
            return f"{name} has another checksum than in {SUMS}"
    return ""


def _digests(folder: pathlib.Path) -> list[tuple[str, str]]:
    """Name and SHA-256 of every file of a state but the list itself."""
    digests = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path != folder / SUMS:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            digests.append((path.relative_to(folder).as_posix(), digest))
    return digests


def _target(leaf: Any) -> Any:
    if isinstance(leaf, np.ndarray):
        return leaf
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)


def _leaves(tree: Any) -> dict[str, str]:
    """Dtype and shape of every leaf, by its place in the tree."""
    return {
        jax.tree_util.keystr(path): f"{np.dtype(leaf.dtype).name}{list(leaf.shape)}"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
