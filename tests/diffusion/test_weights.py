"""Files to parameters and back."""

import functools
import json
import pathlib
import shutil

import flax.serialization
import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxcil.diffusion import weights
from jaxcil.diffusion.text_encoder import CLIPTextModel
from jaxcil.diffusion.unet import UNet2DCondition
from jaxcil.diffusion.vae import AutoencoderKL
from jaxcil.errors import InputError

SD1 = pathlib.Path(__file__).parents[1] / "golden/stable_diffusion/sd1"
MODULES = {"unet": UNet2DCondition, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}


@functools.cache
def shapes(part):
    module = MODULES[part].from_config(json.loads((SD1 / part / "config.json").read_text()))
    return jax.eval_shape(module.initial, jax.random.key(0))


@functools.cache
def parameters(part):
    return weights.read(SD1 / part, part, shapes(part))


def stored(part):
    """The tensors of the stored file by their names."""
    return load_file(SD1 / part / f"{weights.STEMS[part]}.safetensors")


def same(one, two):
    return jax.tree.all(jax.tree.map(lambda a, b: a.dtype == b.dtype and np.array_equal(a, b), one, two))


@pytest.mark.parametrize("part", MODULES)
@pytest.mark.parametrize("dtype", [np.float16, np.float32], ids=["float16", "float32"])
def test_what_is_written_is_read_bit_for_bit(part, dtype, tmp_path):
    # float16 too: the stored weights are exact in it
    weights.write(tmp_path, part, parameters(part), dtype)
    assert same(weights.read(tmp_path, part, shapes(part)), parameters(part))


def test_written_names_are_those_of_todays_torch_libraries(tmp_path):
    weights.write(tmp_path, "unet", parameters("unet"))
    written = load_file(tmp_path / "diffusion_pytorch_model.safetensors")
    original = stored("unet")
    assert written.keys() == original.keys()
    assert all(np.array_equal(written[name], original[name]) for name in original)
    weights.write(tmp_path, "vae", parameters("vae"))
    written = load_file(tmp_path / "diffusion_pytorch_model.safetensors")
    assert "encoder.mid_block.attentions.0.to_out.0.weight" in written  # the stored file has the old names
    weights.write(tmp_path, "text_encoder", parameters("text_encoder"))
    written = load_file(tmp_path / "model.safetensors")
    assert written.keys() == stored("text_encoder").keys() - {"text_model.embeddings.position_ids"}


def test_names_without_the_prefix_are_read(tmp_path):
    tensors = {name.removeprefix("text_model."): tensor for name, tensor in stored("text_encoder").items()}
    save_file(tensors, tmp_path / "model.safetensors")
    assert same(weights.read(tmp_path, "text_encoder", shapes("text_encoder")), parameters("text_encoder"))


def test_bfloat16_is_read(tmp_path):
    tensors = {name: tensor.astype(ml_dtypes.bfloat16) for name, tensor in stored("unet").items()}
    save_file(tensors, tmp_path / "diffusion_pytorch_model.safetensors")
    assert same(weights.read(tmp_path, "unet", shapes("unet")), parameters("unet"))


def test_shards_are_read_through_their_index(tmp_path):
    tensors = stored("unet")
    names = sorted(tensors)
    files = {
        name: f"diffusion_pytorch_model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(names)
    }
    for file in set(files.values()):
        save_file({name: tensors[name] for name in names if files[name] == file}, tmp_path / file)
    index = tmp_path / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": files}))
    assert same(weights.read(tmp_path, "unet", shapes("unet")), parameters("unet"))
    (tmp_path / files[names[0]]).unlink()
    with pytest.raises(InputError, match="00001-of-00002"):
        weights.read(tmp_path, "unet", shapes("unet"))


def test_the_half_precision_variant_is_read_where_it_is_alone(tmp_path):
    target = tmp_path / "diffusion_pytorch_model.fp16.safetensors"
    shutil.copy(SD1 / "unet/diffusion_pytorch_model.safetensors", target)
    assert same(weights.read(tmp_path, "unet", shapes("unet")), parameters("unet"))


def test_flax_files_are_read(tmp_path):
    (tmp_path / "flax_model.msgpack").write_bytes(flax.serialization.to_bytes(parameters("text_encoder")))
    assert same(weights.read(tmp_path, "text_encoder", shapes("text_encoder")), parameters("text_encoder"))


def test_all_that_is_wrong_with_a_file_is_in_one_message(tmp_path):
    tensors = stored("unet")
    del tensors["conv_in.weight"]
    tensors["conv_out.weight"] = tensors["conv_out.weight"][:3]
    tensors["time_embedding.linear_1.bias"] = np.full_like(tensors["time_embedding.linear_1.bias"], np.nan)
    tensors["lora.up.weight"] = np.zeros((2, 5), np.float32)
    save_file(tensors, tmp_path / "diffusion_pytorch_model.safetensors")
    with pytest.raises(InputError) as error:
        weights.read(tmp_path, "unet", shapes("unet"))
    lines = [line.strip() for line in str(error.value).splitlines()]
    assert set(lines[1:-1]) == {
        "left over: lora.up.weight [2, 5]",
        "missing: conv_in.weight",
        "misshaped: conv_out.weight is [3, 3, 16, 3], expected [3, 3, 16, 4] (in flax's order)",
        "not finite in float32: time_embedding.linear_1.bias",
    }


def test_a_tensor_under_two_names_is_refused(tmp_path):
    tensors = stored("text_encoder")
    tensors["final_layer_norm.bias"] = tensors["text_model.final_layer_norm.bias"]
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"twice.*final_layer_norm\.bias"):
        weights.read(tmp_path, "text_encoder", shapes("text_encoder"))


def test_a_file_that_was_cut_off_is_named(tmp_path):
    data = (SD1 / "unet/diffusion_pytorch_model.safetensors").read_bytes()
    (tmp_path / "diffusion_pytorch_model.safetensors").write_bytes(data[:-1000])
    with pytest.raises(InputError, match=r"diffusion_pytorch_model\.safetensors cannot be read"):
        weights.read(tmp_path, "unet", shapes("unet"))


def test_pickles_are_refused_with_the_way_out(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(InputError, match=r"pytorch_model\.bin.*not read.*safetensors"):
        weights.read(tmp_path, "text_encoder", shapes("text_encoder"))


def test_what_does_not_fit_float16_is_not_written(tmp_path):
    large = jax.tree.map(np.array, parameters("vae"))
    large["quant_conv"]["bias"][0] = 1e6
    with pytest.raises(InputError, match=r"quant_conv\.bias"):
        weights.write(tmp_path, "vae", large, np.float16)
    assert not list(tmp_path.iterdir())
    weights.write(tmp_path, "vae", large, np.float32)
