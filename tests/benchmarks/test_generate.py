"""The benchmark of `generate` on small models, and where the data libraries are absent."""

import json
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import pytest

from jaxcil.benchmarks import ceiling, drawing, generate, timing, torch_unet
from jaxcil.diffusion import attention, placement, released
from jaxcil.errors import InputError
from jaxcil.parallel import mesh
from jaxcil.synthesis.dataset import store


@pytest.fixture
def _quick(monkeypatch, tmp_path):
    monkeypatch.setattr(timing, "BUDGET", 0)
    monkeypatch.setattr(timing, "FEWEST", 1)
    monkeypatch.setattr(ceiling, "SIDES", (64,))
    monkeypatch.chdir(tmp_path)  # data sets are written into the current folder, and removed


@pytest.fixture
def _narrow(monkeypatch):
    """Stable Diffusion with few channels and 4 x 4 latents."""
    monkeypatch.setitem(released.RELEASED, "sd15", narrow(4))


def narrow(sample_size):
    few = {"block_out_channels": (8, 8), "norm_num_groups": 4}
    return {
        "unet": few
        | {
            "sample_size": sample_size,
            "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
            "cross_attention_dim": 8,
            "attention_head_dim": 2,
        },
        "vae": few
        | {
            "down_block_types": ("DownEncoderBlock2D",) * 2,
            "up_block_types": ("UpDecoderBlock2D",) * 2,
        },
        "text_encoder": {
            "hidden_size": 8,
            "intermediate_size": 8,
            "num_attention_heads": 1,
            "num_hidden_layers": 1,
        },
        "scheduler": released.RELEASED["sd15"]["scheduler"],
    }


def test_fractions_are_those_of_the_time_of_the_whole():
    seconds = {"whole": 10.0, "drawing": 9.0, "unet": 2.0, "vae_decoder": 1.5}
    found = generate.fractions(seconds, nfe=3)
    assert found == pytest.approx({"unet": 0.6, "vae_decoder": 0.15, "solver": 0.15, "writing": 0.1})


def test_without_the_whole_fractions_are_those_of_the_drawing():
    found = generate.fractions({"drawing": 10.0, "unet": 2.0, "vae_decoder": 1.0}, nfe=4)
    assert found == pytest.approx({"unet": 0.8, "vae_decoder": 0.1, "solver": 0.1})


@pytest.mark.usefixtures("_quick")
def test_figures_of_a_run_fit_one_another(tmp_path):
    figures = generate.run(batch=[1], nfe=1, profile=str(tmp_path / "trace"))
    best, ceiling = figures["best"], figures["matmul_ceiling_tflops"]
    assert sum(best["fractions"].values()) == pytest.approx(1)
    assert best["images_per_second"] == pytest.approx(best["batch"] / best["seconds"]["whole"])
    done = best["tflop_per_image"] * best["images_per_second"]
    assert best["tflops"]["whole"] == pytest.approx(done)
    assert best["fraction_of_ceiling"]["whole"] == pytest.approx(done / ceiling)
    assert best["writing"] == "timed"
    assert best["batch"] == best["images_per_device"] * jax.local_device_count()
    assert figures["text_encoder"]["call_seconds"] > 0
    for name in ("by_network", "by_kind"):
        assert sum(figures["profile"][name].values()) == pytest.approx(1)
    assert figures["profile"]["by_network"]["unet"] > 0
    assert figures["profile"]["by_kind"]["convolution"] > 0
    assert [path.name for path in tmp_path.iterdir()] == ["trace"]


@pytest.mark.usefixtures("_quick")
def test_a_write_that_is_late_counts_however_late_the_others_are(monkeypatch):
    # Every other shard is late. A shard that comes in time after a late one seems quick: by the smallest difference
    # of two times nothing would be late.
    pause, late = 0.4, len(range(1, generate.SHARDS, 2)) / (generate.SHARDS - 1)
    real = store.write_shard

    def write(directory, manifest, shard, *rest):
        real(directory, manifest, shard, *rest)
        time.sleep(pause * (shard % 2))
        store.sidecar_path(store.shard_path(directory, shard)).touch()  # done after the pause

    monkeypatch.setattr(store, "write_shard", write)
    best = generate.run(batch=[1], nfe=1)["best"]
    added = pause * late / generate.SHARD_BATCHES
    # no upper bound on a machine that others use; what is drawn may overlap with little of the writing
    assert best["fractions"]["writing"] * best["seconds"]["whole"] > 0.9 * added
    assert best["images_per_second"] < best["batch"] / added


@pytest.mark.usefixtures("_quick")
def test_the_whole_attends_as_asked(monkeypatch):
    seen = []
    real = attention.kernel

    def kernel(implementation, *shapes):
        seen.append(implementation)
        return real(implementation, *shapes)

    monkeypatch.setattr(attention, "kernel", kernel)
    monkeypatch.setattr(
        placement, "_implementation", lambda *_: "flash"
    )  # who places again attends otherwise
    figures = generate.run(batch=[1], nfe=1, attention=["xla"])
    assert figures["best"]["writing"] == "timed"
    assert set(seen) == {"xla"}


@pytest.mark.usefixtures("_narrow")
def test_a_drawing_does_the_work_of_its_parts():
    model = drawing.placed(generate.load("sd15", jnp.float32), size=None, attention=None)
    work = drawing.make_work(model, images=1, nfe=3)
    parts = drawing.parts(work)
    assert drawing.drawing(work).flops == 3 * parts["unet"].flops + parts["vae_decoder"].flops


def _exhausted(*_):
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory")


def _full(*_):
    raise OSError("no space left")


@pytest.mark.slow
@pytest.mark.usefixtures("_quick", "_narrow")
def test_parts_that_do_not_fit_cost_no_figure_of_the_table(monkeypatch):
    monkeypatch.setattr(generate, "parts", _exhausted)
    monkeypatch.setattr(torch_unet, "missing", lambda: [])  # the parts are wanted there too
    figures = generate.run("sd15", batch=[1], nfe=1)
    assert figures["best"]["skipped"] == "JaxRuntimeError: RESOURCE_EXHAUSTED: out of memory"
    assert figures["torch"] == {"skipped": figures["best"]["skipped"]}
    assert figures["best"]["images_per_second"] == figures["drawing"][0]["images_per_second"] > 0
    assert figures["text_encoder"]["call_seconds"] > 0


@pytest.mark.usefixtures("_quick", "_narrow")
def test_what_fails_beside_the_parts_costs_no_other_figure(monkeypatch):
    monkeypatch.setattr(torch_unet, "missing", lambda: [])
    failing = (generate, "encoding"), (generate, "traced"), (torch_unet, "torch_unet"), (store, "write_shard")
    for where, name in failing:
        monkeypatch.setattr(where, name, _full)
    figures = generate.run("sd15", batch=[1], nfe=1, profile="trace")
    for name in ("text_encoder", "torch", "profile"):
        assert figures[name] == {"skipped": "OSError: no space left"}
    best = figures["best"]
    assert best["writing"] == "not timed: OSError: no space left"
    assert set(best["fractions"]) == {"unet", "vae_decoder", "solver"}
    assert best["images_per_second"] == pytest.approx(best["batch"] / best["seconds"]["drawing"])


@pytest.mark.parametrize(
    ("platform", "name"),
    [
        ("cpu", "cudnn"),
        *(
            pytest.param(platform, name, marks=pytest.mark.slow)
            for platform, name in (
                ("cpu", "flash"),
                ("gpu", "cudnn"),
                ("gpu", "flash"),
                ("tpu", "cudnn"),
                ("tpu", "flash"),
            )
        ),
    ],
)
@pytest.mark.usefixtures("_narrow")
def test_attention_that_no_layer_can_use_is_refused(monkeypatch, platform, name):
    # float32, which cuDNN does not take, and 4 x 4 latents, too few for the flash kernel
    monkeypatch.setattr(mesh, "platform", lambda _: platform)
    monkeypatch.setattr(jax, "default_backend", lambda: platform)
    with pytest.raises(
        InputError, match=f"no layer of this model can use attention by '{name}' on {platform}"
    ):
        drawing.placed(generate.load("sd15", jnp.float32), size=None, attention=name)


@pytest.mark.parametrize("asked", ["flash", None])
@pytest.mark.parametrize(("tokens", "runs"), [(16, "flash"), (17, "xla")], ids=["enough tokens", "too few"])
@pytest.mark.slow
@pytest.mark.usefixtures("_narrow")
def test_the_attention_of_a_model_is_that_which_runs(monkeypatch, asked, tokens, runs):
    monkeypatch.setattr(mesh, "platform", lambda _: "tpu")
    monkeypatch.setattr(attention, "FLASH_TOKENS", tokens)
    if (asked, runs) == ("flash", "xla"):
        with pytest.raises(InputError, match="no layer"):
            drawing.placed(generate.load("sd15", jnp.float32), size=None, attention=asked)
    else:
        assert (
            drawing.placed(generate.load("sd15", jnp.float32), size=None, attention=asked).unet.implementation
            == runs
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float61"}, "dtype"),
        ({"attention": ["xal"]}, "Did you mean 'xla'"),
        ({"attention": ["xla", "flash"]}, "no layer"),
        ({"batch": []}, "batch"),
        ({"batch": [0]}, "batch"),
        ({"nfe": 0}, "number of network calls"),
        ({"size": 17}, "multiple of"),
    ],
    ids=lambda value: str(value),
)
@pytest.mark.usefixtures("_quick")
def test_what_is_of_no_use_is_refused(options, message):
    with pytest.raises(InputError, match=message):
        generate.run(**{"batch": [1], **options})


ELSEWHERE = """
import json, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("tensorflow_datasets", "array_record", "ml_collections", "diffusers"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from jaxcil.benchmarks import ceiling, timing
from jaxcil.cli.main import main
from jaxcil.diffusion import released

pytestmark = pytest.mark.slow

timing.BUDGET, timing.FEWEST, ceiling.SIDES = 0, 1, (64,)
released.RELEASED["sd15"] = json.loads(sys.argv.pop(1))
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_made_up_models_run_where_the_data_libraries_are_absent(tmp_path):
    arguments = (
        "benchmark generate --model=sd15 --size=8 --batch=1 --nfe=2 --dtype=bfloat16 --json=figures.json"
    )
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, json.dumps(narrow(2)), *arguments.split()],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert '"writing": "not timed: ' in done.stdout
    assert (tmp_path / "figures.json").read_text() == done.stdout
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, json.dumps(narrow(2)), "benchmark", "generate"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert (done.returncode, "sd15" in done.stderr) == (2, True)
