"""The networks against stored outputs of diffusers and transformers, and their configurations."""

import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil.diffusion import weights
from jaxcil.diffusion.config import config_of
from jaxcil.diffusion.layers import enlarge
from jaxcil.diffusion.text_encoder import CLIPTextModel
from jaxcil.diffusion.unet import UNet2DCondition
from jaxcil.diffusion.vae import AutoencoderKL
from jaxcil.errors import InputError

SD1 = pathlib.Path(__file__).parents[1] / "golden/stable_diffusion/sd1"
MODULES = {"unet": UNet2DCondition, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}

# The same networks in float64 are 1.2e-6 (text), 6e-7 (UNet), 2e-6 (VAE encoder) and 3e-6 (decoder) from the
# stored float32 arrays; the tolerances are ten times that. The smallest mistake, tanh-gelu in the UNet,
# costs 8e-5.
TEXT, UNET, ENCODED, DECODED = 1e-5, 1e-5, 2e-5, 5e-5


@pytest.fixture(autouse=True)
def _full_precision():
    with jax.default_matmul_precision("highest"):
        yield


@functools.cache
def network(part, folder=SD1, **run):
    """Module and parameters of a part."""
    module = MODULES[part].from_config(json.loads((folder / part / "config.json").read_text()), **run)
    shapes = jax.eval_shape(module.initial, jax.random.key(0))
    return module, {"params": weights.read(folder / part, part, shapes)}


def nhwc(images):
    return np.transpose(images, (0, 2, 3, 1))


def worst(ours, theirs):
    return np.abs(np.asarray(ours) - theirs).max()


def check_against(folder, stored):
    """All the stored outputs of the three networks of a folder."""
    module, parameters = network("text_encoder", folder)
    last, states = jax.jit(module.apply)(parameters, stored["text/ids"])
    assert worst(last, stored["text/last_hidden_state"]) < TEXT
    for i, state in enumerate(states):
        assert worst(state[:2], stored[f"text/hidden_{i}"]) < TEXT

    module, parameters = network("unet", folder)
    apply = jax.jit(module.apply)
    for shape, name, time in (
        ("square", "out_t1", 1),
        ("square", "out_t500", 500),
        ("square", "out_t999", 999),
        ("square", "out_t10_900", [10, 900]),
        ("wide", "out_t501", 501),
        ("odd", "out_t501", 501),
    ):
        latents = nhwc(stored[f"unet/{shape}/sample"])
        times = jnp.broadcast_to(jnp.asarray(time), 2)  # one compiled program for one time and for two
        output = apply(parameters, latents, times, stored["unet/context"])
        assert worst(output, nhwc(stored[f"unet/{shape}/{name}"])) < UNET, (shape, name)

    module, parameters = network("vae", folder)
    encode, decode = (jax.jit(functools.partial(module.apply, method=name)) for name in ("encode", "decode"))
    mean, log_variance = encode(parameters, nhwc(stored["vae/image"]))
    assert worst(mean, nhwc(stored["vae/mean"])) < ENCODED
    assert worst(log_variance, nhwc(stored["vae/logvar"])) < ENCODED
    images = decode(parameters, nhwc(stored["vae/z"]))
    assert worst(images, nhwc(stored["vae/decoded"])) < DECODED


def test_stable_diffusion_1_networks_are_those_of_torch(golden):
    check_against(SD1, golden("stable_diffusion/sd1/golden.npz"))


@pytest.mark.golden
def test_stable_diffusion_2_networks_are_those_of_torch(full_golden):
    folder = full_golden / "stable_diffusion/sd2"
    with np.load(folder / "golden.npz") as stored:
        check_against(folder, stored)


def test_bfloat16_keeps_the_unet_within_its_rounding(golden):
    # torch in bfloat16 throughout is 0.014 from float32 at most; twice that for another order of sums.
    stored = golden("stable_diffusion/sd1/golden.npz")
    module, parameters = network("unet", dtype=jnp.bfloat16)
    parameters = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), parameters)
    output = jax.jit(module.apply)(
        parameters, nhwc(stored["unet/square/sample"]), 500, stored["unet/context"]
    )
    assert output.dtype == jnp.bfloat16
    assert worst(output.astype(jnp.float32), nhwc(stored["unet/square/out_t500"])) < 0.028


# Counted on the released networks: parameters of Stable Diffusion 1.5 and 2.1.
RELEASED = {
    "unet-1": ("unet", {"cross_attention_dim": 768}, 859_520_964),
    "unet-2": (
        "unet",
        {"cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True},
        865_910_724,
    ),
    "vae": (
        "vae",
        {
            "block_out_channels": [128, 256, 512, 512],
            "layers_per_block": 2,
            "down_block_types": ["DownEncoderBlock2D"] * 4,
            "up_block_types": ["UpDecoderBlock2D"] * 4,
        },
        83_653_863,
    ),
    "text-1": (
        "text_encoder",
        {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12},
        123_060_480,
    ),
    "text-2": (
        "text_encoder",
        {
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "num_attention_heads": 16,
            "num_hidden_layers": 23,
            "hidden_act": "gelu",
        },
        340_387_840,
    ),
}


@pytest.mark.parametrize("name", RELEASED)
def test_networks_of_released_size_have_the_released_number_of_parameters(name):
    part, config, count = RELEASED[name]
    shapes = jax.eval_shape(MODULES[part].from_config(config).initial, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_every_convolution_is_the_one_given(part):
    kernels = []

    def convolution(images, kernel, *args, **settings):
        kernels.append(kernel.shape)
        return jax.lax.conv_general_dilated(images, kernel, *args, **settings)

    config = json.loads((SD1 / part / "config.json").read_text())
    module = MODULES[part].from_config(config, convolution=convolution)
    shapes = jax.eval_shape(module.initial, jax.random.key(0))
    assert sorted(kernels) == sorted(leaf.shape for leaf in jax.tree.leaves(shapes) if len(leaf.shape) == 4)


@pytest.mark.parametrize("part", MODULES)
def test_modules_of_one_configuration_are_one_static_value(part):
    config = json.loads((SD1 / part / "config.json").read_text())
    one, two = (MODULES[part].from_config(config, dtype=jnp.float32) for _ in range(2))
    assert one == two
    assert hash(one) == hash(two)
    assert one != MODULES[part].from_config(config, dtype=jnp.bfloat16)


@pytest.mark.parametrize("part", MODULES)
def test_a_module_gives_its_configuration_back(part):
    config = json.loads((SD1 / part / "config.json").read_text())
    module = MODULES[part].from_config(config)
    assert config_of(module).items() <= config.items()
    assert MODULES[part].from_config(config_of(module)) == module


@pytest.mark.parametrize(
    ("part", "setting"),
    [
        ("unet", {"class_embed_type": "timestep"}),
        ("unet", {"only_cross_attention": [True, False]}),
        ("unet", {"addition_embed_type": "text_time"}),
        ("unet", {"resnet_time_scale_shift": "scale_shift"}),
        ("unet", {"down_block_types": ["AttnDownBlock2D", "DownBlock2D"]}),
        ("unet", {"attention_head_dim": 5}),
        ("unet", {"norm_num_groups": 7}),
        ("unet", {"layers_per_block": [2, 2, 2]}),
        ("unet", {"transformer_layers_per_block": [[1, 1], 1]}),
        ("unet", {"mid_block_type": "UNetMidBlock2D"}),
        ("vae", {"use_quant_conv": False}),
        ("vae", {"latents_mean": [0.0, 1.0]}),
        ("text_encoder", {"hidden_act": "relu"}),
        ("text_encoder", {"use_attention_mask": True}),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_a_setting_that_is_not_supported_is_named(part, setting):
    config = json.loads((SD1 / part / "config.json").read_text()) | setting
    with pytest.raises(InputError, match=next(iter(setting))):
        MODULES[part].from_config(config)


def test_unknown_keys_and_missing_ones_are_no_error():
    config = json.loads((SD1 / "unet/config.json").read_text())
    module = UNet2DCondition.from_config(config)
    added = {"_name_or_path": "x", "a_key_of_tomorrow": 3}
    # Missing in files of 2022; their defaults are what these networks were.
    kept = {name: value for name, value in config.items() if name not in ("use_linear_projection", "dropout")}
    assert UNet2DCondition.from_config(kept | added) == module


def test_enlarging_to_a_size_that_is_no_multiple_takes_rows_as_torch_does():
    # torch.nn.functional.interpolate(torch.arange(3.)[None, None], size=5)
    rows = enlarge(jnp.arange(3.0)[None, :, None, None], 1, 5)
    np.testing.assert_array_equal(rows.ravel(), [0, 0, 1, 1, 2])
