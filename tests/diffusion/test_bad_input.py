"""Input that fits neither the model nor the rest: refused before anything is compiled, with what was expected."""

import json
import pathlib
import shutil

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcil.diffusion as sd
from jaxcil import solvers
from jaxcil.diffusion.text_encoder import CLIPTextModel
from jaxcil.diffusion.unet import UNet2DCondition
from jaxcil.diffusion.vae import AutoencoderKL
from jaxcil.errors import InputError

SD1 = pathlib.Path(__file__).parents[1] / "golden/stable_diffusion/sd1"
NETWORKS = {"unet": UNet2DCondition, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}


@pytest.fixture(scope="module")
def model():
    return sd.load(SD1)


@pytest.fixture(scope="module")
def plan(model):
    return solvers.ddim(solvers.scheduler_grid(model.scheduler_config, 2))


TEXT = jnp.zeros((2, 77, 32))
DRAWN = {
    "a text without a batch": ({"text": TEXT[0]}, r"text must be \[B, L, 32\].*got \[77, 32\]"),
    "a text of another width": ({"text": TEXT[..., :8]}, r"text must be \[B, L, 32\].*got \[2, 77, 8\]"),
    "latents of another batch": ({"latents": jnp.zeros((3, 8, 8, 4))}, r"\[2, h, w, 4\], got \[3, 8, 8, 4\]"),
    "latents of other channels": (
        {"latents": jnp.zeros((2, 8, 8, 3))},
        r"\[2, h, w, 4\], got \[2, 8, 8, 3\]",
    ),
    "latents and a size": (
        {"latents": jnp.zeros((2, 8, 8, 4)), "size": 32},
        "omit size=32, or latents",
    ),
    "a negative for some": (
        {"negative": jnp.zeros((3, 77, 32))},
        r"one for all or one per text, \[2, 77, 32\]",
    ),
    "a shorter negative": ({"negative": jnp.zeros((1, 9, 32))}, r"one for all or one per text.*\[1, 9, 32\]"),
    "one side": ({"size": (32,)}, r"multiple of 4 pixels, one number or \(height, width\), got \(32,\)"),
    "three sides": ({"size": (32, 32, 3)}, "multiple of 4 pixels"),
    "half a pixel": ({"size": 32.5}, "multiple of 4 pixels.*got 32.5"),
    "size as text": ({"size": "32"}, "multiple of 4 pixels.*got '32'"),
    "an empty slice": ({"conditions": sd.Conditions(decode_slice=0)}, "at least 1 image"),
    "half an image a slice": ({"conditions": sd.Conditions(decode_slice=0.5)}, "at least 1 image"),
}


@pytest.mark.parametrize("case", DRAWN)
def test_what_does_not_fit_the_texts_is_refused_where_it_is_traced(model, plan, case):
    change, message = DRAWN[case]
    arrays = {name: value for name, value in change.items() if isinstance(value, jax.Array)}
    static = {name: value for name, value in change.items() if name not in arrays}

    def draw(arrays):
        settings = {"text": TEXT, "keys": jax.random.key(0), "size": None} | static | arrays
        return sd.draw_images(model, plan, **settings)

    with pytest.raises(InputError, match=message):
        jax.eval_shape(draw, arrays)


@pytest.mark.parametrize("shape", [(3, 8, 8, 5), (2, 4, 8, 5)], ids=["batch", "size"])
def test_extra_channels_must_lie_over_the_latents(model, plan, shape):
    painting = model.replace(unet=model.unet.clone(in_channels=9))
    with pytest.raises(InputError, match=r"extra must be \[2, 8, 8\] and its channels"):
        sd.draw_images(
            painting, plan, TEXT, jax.random.key(0), size=32, conditions=sd.Conditions(extra=jnp.zeros(shape))
        )


@pytest.mark.parametrize("size", [np.int64(16), (np.int32(16), 16), [16, 16]], ids=["one", "two", "list"])
def test_a_size_may_be_any_whole_number(model, plan, size):
    run = jax.eval_shape(lambda key: sd.draw_images(model, plan, TEXT, key, size=size), jax.random.key(0))
    assert run.shape == (2, 16, 16, 3)


CHANGED = {
    "of another batch": (
        {"images": jnp.zeros((3, 16, 16, 3))},
        r"one prompt per image.*2 prompts",
    ),
    "without a batch": (
        {"images": jnp.zeros((2, 16, 3))},
        r"images must be \[B, H, W, 3\], got \[2, 16, 3\]",
    ),
    "of other channels": ({"images": jnp.zeros((2, 16, 16, 1))}, r"images must be \[B, H, W, 3\]"),
    "with other noise": ({"start_noise": jnp.zeros((1, 4, 4, 4))}, r"start_noise must be \[2, 4, 4, 4\]"),
}


@pytest.mark.parametrize("case", CHANGED)
def test_images_that_do_not_fit_the_prompts_are_refused(model, plan, case):
    change, message = CHANGED[case]
    arrays = {"images": jnp.zeros((2, 16, 16, 3)), "ids": jnp.zeros((2, 77), int)} | change
    run = lambda arrays: sd.image_to_image(model, plan, keys=jax.random.key(0), **arrays)  # noqa: E731
    with pytest.raises(InputError, match=message):
        jax.eval_shape(run, arrays)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.zeros(77, int), r"whole numbers \[B, L\] with L at most 77, got int32 \[77\]"),
        (np.zeros((1, 78), int), r"L at most 77, got int32 \[1, 78\]"),
        (np.zeros((1, 77)), r"whole numbers .* got float32"),
        (np.full((1, 77), -1), "ids must lie in .* got -1 to -1"),
        (np.full((1, 77), 10**6), "got 1000000 to 1000000"),
    ],
    ids=["flat", "long", "fractions", "negative", "unknown"],
)
def test_ids_that_the_text_encoder_does_not_know_are_refused(model, ids, message):
    with pytest.raises(InputError, match=message):
        sd.encode_text(model, ids)


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("unet", "norm_num_groups", None),
        ("unet", "norm_num_groups", 0),
        ("unet", "block_out_channels", 320),
        ("unet", "block_out_channels", []),
        ("unet", "attention_head_dim", 0),
        ("unet", "attention_head_dim", [2, -2]),
        ("unet", "conv_in_kernel", None),
        ("unet", "in_channels", "4"),
        ("unet", "in_channels", 4.5),
        ("unet", "in_channels", True),
        ("unet", "norm_eps", "x"),
        ("unet", "norm_eps", float("nan")),
        ("unet", "layers_per_block", 0),
        ("unet", "num_class_embeds", 0),
        ("unet", "down_block_types", {"a": 1}),
        ("unet", "use_linear_projection", "yes"),
        ("unet", "sample_size", [8, 8, 8]),
        ("vae", "layers_per_block", [2, 2]),
        ("vae", "scaling_factor", None),
        ("vae", "scaling_factor", 0),
        ("text_encoder", "num_attention_heads", 0),
        ("text_encoder", "hidden_act", {}),
    ],
)
def test_a_setting_of_the_wrong_kind_is_named_with_what_it_must_be(part, name, value):
    config = json.loads((SD1 / part / "config.json").read_text()) | {name: value}
    with pytest.raises(InputError, match=rf"cannot be built from its config.json: {name} must be"):
        NETWORKS[part].from_config(config)


@pytest.mark.parametrize(
    ("part", "name", "value", "meant"),
    [
        ("unet", "layers_per_block", 1.0, 1),
        ("unet", "attention_head_dim", [2.0, 4.0], (2, 4)),
        ("unet", "mid_block_scale_factor", 1, 1.0),
        ("unet", "mid_block_type", None, None),
        ("unet", "num_class_embeds", None, None),
        ("unet", "upcast_attention", None, None),
        ("vae", "sample_size", None, None),
        ("text_encoder", "bos_token_id", 0, 0),
        ("text_encoder", "eos_token_id", None, None),
    ],
)
def test_a_setting_that_can_be_understood_is(part, name, value, meant):
    config = json.loads((SD1 / part / "config.json").read_text()) | {name: value}
    read = getattr(NETWORKS[part].from_config(config), name)
    assert read == meant
    assert type(read) in (type(meant), type(value))


def test_all_settings_that_are_wrong_are_in_one_message():
    with pytest.raises(
        InputError, match=r"in_channels must be a whole number above 0.*; norm_eps must be a number"
    ):
        UNet2DCondition.from_config({"in_channels": -4, "norm_eps": "x"})


FOLDERS = {
    "no times": ("scheduler/scheduler_config.json", {"num_train_timesteps": None}, "gives no noise levels"),
    "a text for a beta": ("scheduler/scheduler_config.json", {"beta_start": "a"}, "gives no noise levels"),
    "an unknown schedule": (
        "scheduler/scheduler_config.json",
        {"beta_schedule": "exp"},
        "a beta schedule is",
    ),
    "betas above 1": (
        "scheduler/scheduler_config.json",
        {"trained_betas": [0.1, 2.0]},
        r"numbers in \(0, 1\]",
    ),
    "betas in a table": ("scheduler/scheduler_config.json", {"trained_betas": [[0.1]]}, "must be a list"),
    "a list of predictions": (
        "scheduler/scheduler_config.json",
        {"prediction_type": ["v"]},
        "prediction type",
    ),
    "noise of other channels": ("unet/config.json", {"out_channels": 8}, "takes 4 and returns 8"),
    "too few channels": ("unet/config.json", {"in_channels": 3}, "have 4 channels, but the UNet takes 3"),
    "no number of tokens": (
        "tokenizer/tokenizer_config.json",
        {"model_max_length": float("nan")},
        "at least 3, got nan",
    ),
    "an empty token": ("tokenizer/special_tokens_map.json", {"bos_token": {}}, "bos_token .* got {}"),
    "a number for a token": ("tokenizer/special_tokens_map.json", {"pad_token": 5}, "pad_token .* got 5"),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_a_file_that_does_not_fit_the_pipeline_is_refused(tmp_path, case):
    name, values, message = FOLDERS[case]
    folder = shutil.copytree(SD1, tmp_path / "pipeline")
    (folder / name).write_text(json.dumps(json.loads((folder / name).read_text()) | values))
    with pytest.raises(InputError, match=message):
        sd.load(folder)


def test_a_switch_whose_name_ends_like_a_token_is_none(tmp_path):
    folder = shutil.copytree(SD1, tmp_path / "pipeline")
    path = folder / "tokenizer/tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"add_bos_token": True}))
    assert sd.load(folder).tokenizer == sd.load(SD1).tokenizer


@pytest.mark.parametrize(
    "tree",
    [{"conv_in": {"kernel": [1.0, 2.0]}}, {"conv_in": {0: np.zeros(2)}}, {"conv_in": "kernel"}],
    ids=["list", "number as name", "text"],
)
def test_a_msgpack_file_that_is_no_tree_of_arrays_is_refused(tmp_path, tree):
    folder = shutil.copytree(SD1, tmp_path / "pipeline")
    for file in (folder / "unet").glob("*.safetensors"):
        file.unlink()
    (folder / "unet/diffusion_flax_model.msgpack").write_bytes(flax.serialization.msgpack_serialize(tree))
    with pytest.raises(InputError, match="is not a tree of parameters: conv_in"):
        sd.load(folder)
