"""Imports go one way, and what should run without TFDS, ml_collections or diffusers does."""

import ast
import pathlib
import subprocess
import sys

import pytest

import jaxcil

PACKAGE = pathlib.Path(jaxcil.__file__).parent
# From the bottom up: a part may import parts that stand before it, and itself.
LAYERS = (
    *(
        "errors",
        "tables",
        "keys",
        "convolution",
        "solvers",
        "losses",
        "workdir",
        "parallel",
        "heads",
        "memory",
        "data",
    ),
    *(
        "training",
        "extractors",
        "learners",
        "diffusion",
        "synthesis",
        "evaluation",
        "experiment",
        "benchmarks",
        "cli",
    ),
)
ALONE = {"solvers": set(), "convolution": set(), "keys": set(), "errors": set(), "tables": set()}
LIGHT = ("solvers", "diffusion", "heads", "learners", "extractors", "training")
HEAVY = (
    "tensorflow",
    "tensorflow_datasets",
    "ml_collections",
    "diffusers",
    "orbax",
    "sklearn",
    "matplotlib",
    "torch",
)


def parts_imported_by(file: pathlib.Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            names = (
                [f"{node.module}.{alias.name}" for alias in node.names]
                if node.module == "jaxcil"
                else [node.module]
            )
        else:
            continue
        found |= {name.split(".")[1] for name in names if name.startswith("jaxcil.")}
    return found


@pytest.mark.parametrize(
    "file", sorted(PACKAGE.rglob("*.py")), ids=lambda file: str(file.relative_to(PACKAGE))
)
def test_imports_go_down_only(file):
    part = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if part in ("__init__", "__main__", "configs"):
        return
    allowed = ALONE.get(part, set(LAYERS[: LAYERS.index(part)])) | {part}
    known = parts_imported_by(file) & set(LAYERS)
    assert known <= allowed, f"{part} may not import {sorted(known - allowed)}"


def test_what_serves_without_the_data_libraries_imports_none_of_them():
    modules = [
        ".".join(("jaxcil", *file.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        for part in LIGHT
        for file in sorted((PACKAGE / part).rglob("*.py"))
        if file.name != "checkpoint.py"
    ]
    program = f"""
import importlib, sys
for name in {modules!r}:
    importlib.import_module(name)
print(*sorted({{name.partition(".")[0] for name in sys.modules}} & set({HEAVY!r})))
import jax._src.xla_bridge as bridge
assert not bridge._backends, "an array is made at import time"
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def test_no_file_is_longer_than_400_lines():
    lengths = {
        file.relative_to(PACKAGE): len(file.read_text().splitlines()) for file in PACKAGE.rglob("*.py")
    }
    assert {file: length for file, length in lengths.items() if length > 400} == {}
