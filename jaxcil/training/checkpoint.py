"""Training states on disk, through Orbax: the only file that imports it."""

import pathlib
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp


class Checkpoints:
    """The newest training state of one training, in one directory; a context manager.

    Orbax writes aside and renames, so a killed process leaves the state before.
    """

    def __init__(self, directory: str | pathlib.Path):
        """Opens or makes the directory."""
        options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(pathlib.Path(directory).absolute(), options=options)

    def __enter__(self) -> "Checkpoints":
        """Orbax has threads that must end before the interpreter does."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Closes them."""
        self._manager.close()

    @property
    def done(self) -> int:
        """Number of steps of the newest state, 0 without one."""
        return self._manager.latest_step() or 0

    def save(self, step: int, tree: Any) -> None:
        """Keeps the state after that many steps and drops the one before."""
        dtypes = ocp.args.JsonSave({"leaves": _dtypes(tree)})
        items = {"state": ocp.args.StandardSave(tree), "dtypes": dtypes}
        self._manager.save(step, args=ocp.args.Composite(**items))
        self._manager.wait_until_finished()

    def restore(self, like: Any) -> tuple[int, Any] | None:
        """The newest state and its number of steps, or None.

        Args:
          like: a state of the same structure; its shapes, dtypes and shardings are those of the result, and numpy
            arrays stay numpy arrays.

        Raises:
          ValueError: if a stored array has another dtype: Orbax would cast it without a word.
        """
        step = self._manager.latest_step()
        if step is None:
            return None
        target = jax.tree.map(_wanted, like)
        wanted = _dtypes(like)
        items = {"state": ocp.args.StandardRestore(target), "dtypes": ocp.args.JsonRestore()}
        stored = self._manager.restore(step, args=ocp.args.Composite(**items))
        if (there := stored["dtypes"]["leaves"]) != wanted:
            raise ValueError(f"expected a stored state of dtypes {wanted}, got {there}")
        return step, stored["state"]


def _wanted(leaf: Any) -> Any:
    if isinstance(leaf, np.ndarray):
        return leaf
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)


def _dtypes(tree: Any) -> list[str]:
    return [np.dtype(leaf.dtype).name for leaf in jax.tree.leaves(tree)]
