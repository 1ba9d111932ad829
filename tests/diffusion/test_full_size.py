"""The released networks: their shapes, counted on torch's meta device, and a forward pass of full size."""

import json
import math
import os
import subprocess
import sys

import jax
import pytest

from jaxcil.diffusion.released import RELEASED
from jaxcil.diffusion.text_encoder import CLIPTextModel
from jaxcil.diffusion.unet import UNet2DCondition
from jaxcil.diffusion.vae import AutoencoderKL

ONE, TWO = RELEASED["sd15"], RELEASED["sd21"]
# Name: module, config.json, tensors, parameters.
NETWORKS = {
    "unet-1.5": (UNet2DCondition, ONE["unet"], 686, 859_520_964),
    "unet-2.1": (UNet2DCondition, TWO["unet"], 686, 865_910_724),
    "vae": (AutoencoderKL, ONE["vae"], 248, 83_653_863),
    "text-1.5": (CLIPTextModel, ONE["text_encoder"], 196, 123_060_480),
    "text-2.1": (CLIPTextModel, TWO["text_encoder"], 372, 340_387_840),
}
BLOCKS = {
    "unet-1.5": {
        "conv_in": 11_840,
        "time_embedding": 2_050_560,
        "down_blocks_0": 10_524_480,
        "down_blocks_1": 36_818_560,
        "down_blocks_2": 139_992_320,
        "down_blocks_3": 62_277_120,
        "mid_block": 97_038_080,
        "up_blocks_0": 162_241_280,
        "up_blocks_1": 258_330_880,
        "up_blocks_2": 71_413_120,
        "up_blocks_3": 18_810_560,
        "conv_norm_out": 640,
        "conv_out": 11_524,
    },
    "vae": {"encoder": 34_163_592, "decoder": 49_490_179, "quant_conv": 72, "post_quant_conv": 20},
}


def shapes(name):
    module, config, *_ = NETWORKS[name]
    return jax.eval_shape(module.from_config(config).initial, jax.random.key(0))


def parameters(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", NETWORKS)
def test_released_networks_have_the_released_tensors_and_parameters(name):
    tree = shapes(name)
    assert (len(jax.tree.leaves(tree)), parameters(tree)) == NETWORKS[name][2:]


@pytest.mark.parametrize("name", BLOCKS)
def test_every_block_has_the_released_number_of_parameters(name):
    assert {block: parameters(tree) for block, tree in shapes(name).items()} == BLOCKS[name]


def test_an_inpainting_unet_differs_in_its_first_convolution_alone():
    module = UNet2DCondition.from_config(ONE["unet"] | {"in_channels": 9})
    wide, narrow = jax.eval_shape(module.initial, jax.random.key(0)), shapes("unet-1.5")
    assert wide.pop("conv_in")["kernel"].shape == (3, 3, 9, 320)
    del narrow["conv_in"]
    assert wide == narrow


FORWARD = """
import json, resource, sys, time
import jax, jax.numpy as jnp, numpy as np
from jaxcil.diffusion.unet import UNet2DCondition
from jaxcil.diffusion.vae import AutoencoderKL

pytestmark = pytest.mark.slow

block = np.random.default_rng(0).normal(0, 0.02, 2**20).astype(np.float32)
report = {}
for name, module, config, method, inputs in (
    ("unet", UNet2DCondition, json.loads(sys.argv[1]), None, ((1, 32, 32, 4), (), (1, 77, 768))),
    ("encoder", AutoencoderKL, json.loads(sys.argv[2]), "encode", ((1, 256, 256, 3),)),
    ("decoder", AutoencoderKL, json.loads(sys.argv[2]), "decode", ((1, 32, 32, 4),)),
):
    network = module.from_config(config)
    shapes = jax.eval_shape(network.initial, jax.eval_shape(lambda: jax.random.key(0)))
    parameters = jax.tree.map(lambda leaf: jnp.asarray(np.resize(block, leaf.shape)), shapes)
    arrays = [jax.random.normal(jax.random.key(1), shape) for shape in inputs]
    start = time.perf_counter()
    apply = jax.jit(lambda parameters, *x: network.apply({"params": parameters}, *x, method=method))
    compiled = apply.lower(parameters, *arrays).compile()
    middle = time.perf_counter()
    out = jax.tree.leaves(jax.block_until_ready(compiled(parameters, *arrays)))[0]
    report[name] = {
        "shape": out.shape,
        "finite": bool(jnp.isfinite(out).all()),
        "compile_seconds": round(middle - start, 1),
        "call_seconds": round(time.perf_counter() - middle, 1),
    }
    del parameters, compiled
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps(report | {"peak_bytes": peak}))
"""


@pytest.mark.slow
def test_the_networks_of_stable_diffusion_1_run_at_256_pixels_within_8_gigabytes():
    # A process of its own, for its peak of memory and for XLA's own optimisation
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    command = [sys.executable, "-c", FORWARD, json.dumps(ONE["unet"]), json.dumps(ONE["vae"])]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    report = json.loads(run.stdout.splitlines()[-1])
    print(report)
    peak = report.pop("peak_bytes")
    assert [part["shape"] for part in report.values()] == [[1, 32, 32, 4], [1, 32, 32, 4], [1, 256, 256, 3]]
    assert all(part["finite"] for part in report.values())
    assert peak < 8e9
