"""Imports go one way, and what should run without TFDS, ml_collections or diffusers does."""

import ast
import pathlib
import subprocess
import sys

import pytest

import jaxcil

PACKAGE = pathlib.Path(jaxcil.__file__).parent
# From the bottom up: a part may import the parts before it, and itself.
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


def files_of(part: str) -> list[pathlib.Path]:
    return sorted((*PACKAGE.glob(f"{part}.py"), *PACKAGE.glob(f"{part}/**/*.py")))


def parts_imported_by(file: pathlib.Path) -> set[str]:
    parts = set()
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
        parts |= {name.split(".")[1] for name in names if name.startswith("jaxcil.")}
    return parts


@pytest.mark.parametrize("part", [part for part in LAYERS if files_of(part)])
def test_imports_go_down_only(part):
    allowed = ALONE.get(part, set(LAYERS[: LAYERS.index(part)])) | {part}
    upwards = {
        str(file.relative_to(PACKAGE)): sorted(imported)
        for file in files_of(part)
        if (imported := parts_imported_by(file) & set(LAYERS) - allowed)
    }
    assert not upwards


def test_every_file_is_in_a_layer():
    known = {file for part in LAYERS for file in files_of(part)}
    rest = {str(file.relative_to(PACKAGE)) for file in set(PACKAGE.rglob("*.py")) - known}
    assert rest == {"__init__.py", "__main__.py"}


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


def test_at_most_four_files_lie_loose_in_the_package():
    assert {file.name for file in PACKAGE.glob("*.py")} - {"__init__.py", "__main__.py"} == {
        "errors.py",
        "tables.py",
        "keys.py",
        "convolution.py",
    }


def test_a_config_dict_goes_no_further_than_settings_and_the_command():
    def names_it(file):
        tree = ast.parse(file.read_text())
        names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        return "ConfigDict" in names | {
            alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names
        }

    files = {file.relative_to(PACKAGE) for file in PACKAGE.rglob("*.py") if names_it(file)}
    assert {
        str(file) for file in files if file.parts[0] not in ("cli", "configs") and file.name != "settings.py"
    } == set()


def test_no_file_imports_itself_over_others():
    graph = {}
    for file in PACKAGE.rglob("*.py"):
        name = ".".join(("jaxcil", *file.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
            ".__init__"
        )
        graph[name] = set()
        for node in ast.parse(
            file.read_text()
        ).body:  # at the top: what a function imports later cannot be circular
            if isinstance(node, ast.ImportFrom) and node.module:
                graph[name] |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    packages = {name for name in graph if any(other.startswith(f"{name}.") for other in graph)}
    graph = {name: (found & set(graph)) - packages - {name} for name, found in graph.items()}
    while free := {name for name, found in graph.items() if not found}:
        graph = {name: found - free for name, found in graph.items() if name not in free}
    assert graph == {}
