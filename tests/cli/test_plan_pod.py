"""`jaxcil plan-pod` from the command line: the whole path where libtpu is installed, and all else with a compiler
that is played."""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import jax
import pytest

from jaxcil.cli import main as command
from jaxcil.cli.plan_pod import ENVIRONMENT
from jaxcil.parallel import mesh, pods
from jaxcil.synthesis.drawing.pod_plan import abstract_model

pytestmark = pytest.mark.slow

SD1 = pathlib.Path(__file__).parents[1] / "golden/stable_diffusion/sd1"
MIB = 2**20


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """The command sets variables for its own process; here they go again."""
    for name in ENVIRONMENT:
        monkeypatch.setenv(name, os.environ.get(name, ""))


@pytest.fixture
def compiled(monkeypatch):
    """A compiler that knows one network: 100 MiB, and 400 MiB an image. Gives the batches a chip that it met."""
    batches = []

    def compile_ahead(function, fixed, drawn):
        batch = drawn[0].shape[0] // len(jax.devices())
        batches.append(batch)
        program = pods.Program(60 * MIB, 400 * MIB * batch, 0, 40 * MIB, 1e12, {"all-gather": 2}, 3.0)
        if program.memory > pods.CHIPS["v5e"].memory:
            raise pods.OutOfMemory("Ran out of memory on HBM.")
        return program

    monkeypatch.setattr(pods, "pod", lambda topology: (pods.CHIPS["v5e"], mesh.generation_mesh()))
    monkeypatch.setattr(pods, "compile_ahead", compile_ahead)
    monkeypatch.setattr(pods, "compiler", lambda: {})
    return batches


def call(capsys, *arguments):
    with pytest.raises(SystemExit) as exit_:
        command.main(
            [
                "plan-pod",
                "--config=generate_digits",
                f"--config.model={SD1}",
                "--topology=v5e:2x2",
                *arguments,
            ]
        )
    printed = capsys.readouterr()
    return exit_.value.code, printed.out.splitlines(), printed.err


def test_the_tiny_pipeline_compiles_for_a_tpu_without_a_collective(tmp_path):
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip('libtpu is not installed (the extra "tpu")')
    done = subprocess.run(
        [
            *(sys.executable, "-m", "jaxcil", "plan-pod", "--config=generate_digits", "--topology=v5e:2x2"),
            *(f"--config.model={SD1}", "--config.batch_size=2", "--config.nfe=3", "--compiles=1"),
            f"--workdir={tmp_path}",
        ],
        env=os.environ | {"XLA_FLAGS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "collectives      none" in done.stdout
    figures = json.loads((tmp_path / "plan_pod.json").read_text())
    program = figures["programs"]["2"]
    parameters = sum(2 * leaf.size for leaf in jax.tree.leaves(abstract_model(str(SD1)).parameters))
    # Every chip holds all parameters in bfloat16, and small arrays fill the tiles of a TPU
    assert program["arguments"] >= parameters
    assert program["output"] >= 2 * 32 * 32 * 3 * 4
    assert figures["chips"] == 4


def test_the_largest_batch_is_the_last_multiple_of_four_that_fits(compiled, capsys, tmp_path):
    # 15.75 GiB less 100 MiB hold 40 images of 400 MiB, less some.
    status, lines, _ = call(capsys, "--config.batch_size=6", "--compiles=3", f"--workdir={tmp_path}")
    assert status == 0
    assert compiled == [6, 3, 40]
    assert "largest batch    40 images per chip, compiled" in lines
    figures = json.loads((tmp_path / "plan_pod.json").read_text())
    assert figures["largest_batch"] == {"images": 40, "compiled": True}
    assert figures["programs"]["40"]["memory"] == 16100 * MIB <= figures["chip_memory"]


@pytest.mark.parametrize(
    ("compiles", "met", "line"),
    [(2, [6, 3], "largest batch    40 images per chip, extrapolated"), (1, [6], None)],
)
def test_fewer_compilations_say_less(compiles, met, line, compiled, capsys):
    status, lines, _ = call(capsys, "--config.batch_size=6", f"--compiles={compiles}")
    assert (status, compiled) == (0, met)
    assert [found for found in lines if found.startswith("largest")] == ([line] if line else [])


def test_the_report_gives_memory_collectives_and_time(compiled, capsys):
    status, lines, _ = call(
        capsys,
        "--config.batch_size=6",
        "--compiles=1",
        "--images=2000000",
        "--utilization=0.5",
        "--config.nfe=7",
    )
    assert status == 0
    assert "6 images of 32 x 32 per chip, 7 guided calls, for v5e:2x2 (4 chips)" in lines[0]
    assert lines[1] == (
        "memory per chip  2.44 of 15.75 GiB: arguments 0.06, temporaries 2.34, output 0.00, code 0.04"
    )
    assert lines[2] == "collectives      2 all-gather"
    assert "2,000,000 images in" in lines[4]
    assert "at 50% of 197 TFLOP/s per chip" in lines[4]


def test_stable_diffusion_1_5_takes_35_tflop_an_image_and_the_hours_that_this_takes(
    compiled, capsys, tmp_path
):
    status, _, _ = call(
        capsys, "--config.model=sd15", "--config.batch_size=1", "--compiles=1", f"--workdir={tmp_path}"
    )
    assert status == 0
    figures = json.loads((tmp_path / "plan_pod.json").read_text())
    assert figures["image_size"] == [512, 512]
    # torch's count: 40 calls of 0.803 TFLOP, a decode of 2.515, text states of 0.013
    assert figures["flops_per_image"] == pytest.approx(34.66e12, rel=1e-3)
    seconds = 1e6 * 34.66e12 / (4 * 0.4 * 197e12)
    assert figures["hours"] == pytest.approx(seconds / 3600, rel=1e-3)


def test_a_model_is_read_without_its_weights(tmp_path):
    for file in SD1.rglob("*"):
        if file.is_file() and file.suffix not in (".safetensors", ".npz"):
            there = tmp_path / file.relative_to(SD1)
            there.parent.mkdir(parents=True, exist_ok=True)
            there.write_bytes(file.read_bytes())
    described, loaded = abstract_model(str(tmp_path)), abstract_model(str(SD1))
    assert jax.tree.structure(described) == jax.tree.structure(loaded)
    assert all(leaf.dtype == "bfloat16" for leaf in jax.tree.leaves(described))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (
            ["--config.batch_size=50"],
            "a batch of 50 per chip does not fit: Ran out of memory on HBM. Use a smaller",
        ),
        (["--config.batch_size=0"], "batch_size must be from 1 to 1,000,000, got 0"),
        (["--images=0"], "images must be from 1 to"),
        (["--images=many"], "--images must be a whole number, got 'many'"),
        (["--utilization=40"], "utilization must be from 1e-06 to 1.0, got 40.0"),
        (["--compiles=0"], "compiles must be from 1 to 100, got 0"),
        (["--config.model=sd51"], "no model 'sd51'; there are: sd15, sd21, digits."),
        (["--config.order=4"], "order must be from 1 to 3, got 4"),
        (["--workdir=/dev/null/x"], "/dev/null/x cannot be written"),
    ],
    ids=" ".join,
)
def test_bad_input_is_status_2_and_one_message(arguments, expected, compiled, capsys):
    status, lines, err = call(capsys, *arguments)
    assert (status, lines) == (2, [])
    assert err.startswith("jaxcil: ")
    assert expected in err
