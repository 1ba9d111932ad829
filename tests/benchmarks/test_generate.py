"""The benchmark of `generate` on small models, and where the data libraries are absent."""

import subprocess
import sys

import pytest

from jaxcil.benchmarks import ceiling, generate, timing
from jaxcil.errors import InputError


@pytest.fixture
def _quick(monkeypatch, tmp_path):
    monkeypatch.setattr(timing, "BUDGET", 0)
    monkeypatch.setattr(timing, "FEWEST", 1)
    monkeypatch.setattr(ceiling, "SIDES", (64,))
    monkeypatch.chdir(tmp_path)  # data sets are written into the current folder, and removed


def test_shares_are_those_of_the_time_of_the_whole():
    seconds = {"whole": 10.0, "drawing": 9.0, "unet": 2.0, "text_encoder": 0.5, "vae_decoder": 1.5}
    found = generate.shares(seconds, calls=3)
    assert sum(found.values()) == pytest.approx(1)
    assert found == pytest.approx(
        {"unet": 0.6, "text_encoder": 0.05, "vae_decoder": 0.15, "solver": 0.1, "writing": 0.1}
    )


@pytest.mark.usefixtures("_quick")
def test_figures_of_a_run_fit_one_another(tmp_path):
    figures = generate.run(batch=[1], calls=1, profile=str(tmp_path / "trace"))
    best, ceiling = figures["best"], figures["matmul_ceiling_tflops"]
    assert sum(best["shares"].values()) == pytest.approx(1)
    assert best["images_a_second"] == pytest.approx(best["batch"] / best["seconds"]["whole"])
    done = best["tflop_an_image"] * best["images_a_second"]
    assert best["tflops"]["whole"] == pytest.approx(done)
    assert best["share_of_ceiling"]["whole"] == pytest.approx(done / ceiling)
    assert best["writing"] == "timed"
    for name in ("by_network", "by_kind"):
        assert sum(figures["profile"][name].values()) == pytest.approx(1)
    assert figures["profile"]["by_network"]["unet"] > 0
    assert figures["profile"]["by_kind"]["convolution"] > 0
    assert [path.name for path in tmp_path.iterdir()] == ["trace"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float61"}, "dtype"),
        ({"attention": ["xal"]}, "Did you mean 'xla'"),
        ({"batch": []}, "batch"),
        ({"batch": [0]}, "batch"),
        ({"calls": 0}, "number of calls"),
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
from jaxcil.benchmarks import ceiling, stable_diffusion, timing
from jaxcil.cli.main import main
from jaxcil.diffusion.unet import UNet2DCondition
from jaxcil.diffusion.vae import AutoencoderKL
from jaxcil.diffusion.text_encoder import CLIPTextModel

timing.BUDGET, timing.FEWEST, ceiling.SIDES = 0, 1, (64,)
narrow = dict(block_out_channels=(8, 8), norm_num_groups=4)
stable_diffusion.unet = lambda dtype: UNet2DCondition(
    sample_size=2, down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"), cross_attention_dim=8, attention_head_dim=2, dtype=dtype,
    **narrow)
stable_diffusion.vae = lambda dtype: AutoencoderKL(
    down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, dtype=dtype, **narrow)
stable_diffusion.text_encoder = lambda dtype: CLIPTextModel(
    hidden_size=8, intermediate_size=8, num_attention_heads=1, num_hidden_layers=1, dtype=dtype)
main(sys.argv[1:])
"""


def test_made_up_models_run_where_the_data_libraries_are_absent(tmp_path):
    arguments = (
        "benchmark generate --model=sd15 --size=8 --batch=1 --calls=2 --dtype=bfloat16 --json=figures.json"
    )
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, *arguments.split()],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert '"writing": "not timed: ' in done.stdout
    assert '"writing": 0.0' in done.stdout  # its share
    assert (tmp_path / "figures.json").read_text() == done.stdout
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, "benchmark", "generate"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert (done.returncode, "sd15" in done.stderr) == (2, True)
