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

GOLDEN = pathlib.Path(__file__).parents[1] / "golden/stable_diffusion"
SD1 = GOLDEN / "sd1"
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
    apply, labels = jax.jit(module.apply), stored.get("unet/class_labels")
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
        output = apply(parameters, latents, times, stored["unet/context"], labels)
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


@pytest.mark.parametrize("name", ["unet_inpainting", "unet_uneven"])
def test_unets_of_other_settings_are_those_of_torch(golden, name):
    """Two random UNets of diffusers 0.42.1 (torch 2.13, CPU, weights exact in float16) and their outputs.

    unet_inpainting: 9 channels, 5 classes, uneven levels and transformers, kernels of 5, centred input, middle sums
    divided by 1.5, the first level attends to the text alone. unet_uneven: 2, 1, 3 residual blocks a level, no
    middle, text alone at all levels, linear projections, a size that the levels do not divide.
    """
    stored = golden(f"stable_diffusion/{name}/golden.npz")
    module, parameters = network("unet", GOLDEN / name)
    output = jax.jit(module.apply)(
        parameters, nhwc(stored["sample"]), stored["times"], stored["text"], stored.get("labels")
    )
    # Outputs reach 2, where those above stay below 1: twice their tolerance
    assert worst(output, nhwc(stored["output"])) < 2 * UNET


def test_skipped_layers_are_left_away_before_the_last_norm_as_in_diffusers(golden):
    """transformers 5.23: final_layer_norm(hidden_states[-(n + 1)]) of sd1's text encoder."""
    stored = golden("stable_diffusion/text_projection.npz")
    module, parameters = network("text_encoder")
    for skip in (1, 2):
        states, _ = module.apply(parameters, stored["clip_skip_ids"], skip)
        assert worst(states, stored[f"clip_skip_{skip}"]) < TEXT


@pytest.mark.parametrize("skip", [-1, 3])
def test_skipping_all_layers_or_less_than_none_is_refused(skip):
    module, parameters = network("text_encoder")
    with pytest.raises(InputError, match=r"clip_skip must lie in \[0, 3\)"):
        module.apply(parameters, np.zeros((1, 4), np.int32), skip)


def test_a_network_with_classes_needs_labels_and_one_without_takes_none():
    module, parameters = network("unet", GOLDEN / "unet_inpainting")
    inputs = jnp.zeros((1, 8, 8, 9)), 1, jnp.zeros((1, 6, 8))
    with pytest.raises(InputError, match=r"trained with 5 classes: pass class_labels"):
        module.apply(parameters, *inputs)
    module, parameters = network("unet")
    inputs = jnp.zeros((1, 8, 8, 4)), 1, jnp.zeros((1, 6, 32)), jnp.zeros(1, jnp.int32)
    with pytest.raises(InputError, match="no classes of its own"):
        module.apply(parameters, *inputs)


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
        ("unet", {"only_cross_attention": [True, False, True]}),
        ("unet", {"conv_in_kernel": 4}),
        ("unet", {"dual_cross_attention": True}),
        ("unet", {"encoder_hid_dim": 768}),
        ("unet", {"time_cond_proj_dim": 256}),
        ("unet", {"num_attention_heads": 8}),
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
        ("vae", {"latents_std": [0.5, 1.0]}),
        ("vae", {"shift_factor": 0.1}),
        ("vae", {"mid_block_add_attention": False}),
        ("text_encoder", {"hidden_act": "relu"}),
        ("text_encoder", {"use_attention_mask": True}),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_a_setting_that_is_not_supported_is_named(part, setting):
    config = json.loads((SD1 / part / "config.json").read_text()) | setting
    with pytest.raises(InputError, match=next(iter(setting))):
        MODULES[part].from_config(config)


# What diffusers 0.42.1 writes for a class without arguments, but for sizes and block types.
DEFAULTS = {
    "unet": {
        "act_fn": "silu",
        "addition_embed_type": None,
        "attention_type": "default",
        "center_input_sample": False,
        "class_embed_type": None,
        "class_embeddings_concat": False,
        "conv_in_kernel": 3,
        "conv_out_kernel": 3,
        "cross_attention_norm": None,
        "downsample_padding": 1,
        "dropout": 0.0,
        "dual_cross_attention": False,
        "encoder_hid_dim": None,
        "encoder_hid_dim_type": None,
        "mid_block_only_cross_attention": None,
        "mid_block_scale_factor": 1,
        "num_attention_heads": None,
        "num_class_embeds": None,
        "only_cross_attention": False,
        "resnet_out_scale_factor": 1.0,
        "resnet_skip_time_act": False,
        "resnet_time_scale_shift": "default",
        "reverse_transformer_layers_per_block": None,
        "time_cond_proj_dim": None,
        "time_embedding_act_fn": None,
        "time_embedding_dim": None,
        "time_embedding_type": "positional",
        "timestep_post_act": None,
        "upcast_attention": False,
    },
    "vae": {
        "act_fn": "silu",
        "force_upcast": True,
        "latents_mean": None,
        "latents_std": None,
        "mid_block_add_attention": True,
        "shift_factor": None,
        "use_post_quant_conv": True,
        "use_quant_conv": True,
    },
}


@pytest.mark.parametrize("part", DEFAULTS)
def test_a_default_that_is_written_out_is_the_network_without_it(part):
    config = json.loads((SD1 / part / "config.json").read_text())
    without = {name: value for name, value in config.items() if name not in DEFAULTS[part]}
    module = MODULES[part].from_config(config | DEFAULTS[part])
    assert module == MODULES[part].from_config(without)


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
