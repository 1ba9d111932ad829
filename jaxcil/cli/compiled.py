"""Compiled programs that are kept between processes."""

import os
import pathlib
import sys
import tempfile

FOLDER, THRESHOLD = "JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"
SECONDS = 0.1  # programs that compile faster are not kept: they are hundreds, and reading them takes as long


def keep_compiled_programs() -> None:
    """Turns on jax's persistent compilation cache in $XDG_CACHE_HOME/jaxcil/compiled, by default in ~/.cache.

    Does nothing where the user has set jax's cache, or where the folder cannot be written. Jax is not imported: it
    reads the environment when it is.
    """
    jax = sys.modules.get("jax")
    if FOLDER in os.environ or (jax is not None and jax.config.jax_compilation_cache_dir is not None):
        return
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = pathlib.Path(cache, "jaxcil", "compiled")
    if not folder.is_absolute():  # the user has no home
        return
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)  # programs in it are run
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError:
        return
    os.environ[FOLDER] = str(folder)
    seconds = os.environ.setdefault(THRESHOLD, str(SECONDS))
    if jax is not None:
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", float(seconds))
