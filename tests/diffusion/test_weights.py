"""Files to parameters and back."""

import functools
import json
import pathlib
import re
import shutil

import flax.serialization
import jax
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxcil.diffusion import weights
from jaxcil.diffusion.tensor_files import STEMS, chosen_files
from jaxcil.diffusion.text_encoder import CLIPTextModel
from jaxcil.diffusion.unet import UNet2DCondition
from jaxcil.diffusion.vae import AutoencoderKL
from jaxcil.errors import InputError
from jaxcil.parallel.mesh import everywhere, generation_mesh

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
    return load_file(SD1 / part / f"{STEMS[part]}.safetensors")


def same(one, two):
    return jax.tree.all(jax.tree.map(lambda a, b: a.dtype == b.dtype and np.array_equal(a, b), one, two))


@pytest.mark.parametrize("part", MODULES)
@pytest.mark.parametrize(
    "dtype", [np.float16, ml_dtypes.bfloat16, np.float32], ids=["float16", "bfloat16", "float32"]
)
def test_what_is_written_is_read_bit_for_bit(part, dtype, tmp_path):
    # the stored weights are exact in all three
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


def write_shards(folder, tensors, index, shards):
    """Safetensors in two shards with an index of that name."""
    places = {name: shards[i % 2] for i, name in enumerate(sorted(tensors))}
    for shard in shards:
        save_file({name: tensors[name] for name in tensors if places[name] == shard}, folder / shard)
    (folder / index).write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return places


STEM = "diffusion_pytorch_model"
SHARDS = [f"{STEM}-0000{i}-of-00002.safetensors" for i in (1, 2)]


def test_shards_are_read_through_their_index(tmp_path):
    places = write_shards(tmp_path, stored("unet"), f"{STEM}.safetensors.index.json", SHARDS)
    assert same(weights.read(tmp_path, "unet", shapes("unet")), parameters("unet"))
    (tmp_path / SHARDS[0]).unlink()
    with pytest.raises(InputError, match=r"lacks shards .*00001-of-00002"):
        weights.read(tmp_path, "unet", shapes("unet"))
    (tmp_path / f"{STEM}.safetensors.index.json").write_text(
        json.dumps({"weight_map": dict.fromkeys(places, "../elsewhere.safetensors")})
    )
    with pytest.raises(InputError, match="in other folders"):
        weights.read(tmp_path, "unet", shapes("unet"))


def test_a_tensor_that_is_not_in_the_shard_of_the_index_is_named(tmp_path):
    index = tmp_path / f"{STEM}.safetensors.index.json"
    places = write_shards(tmp_path, stored("unet"), index.name, SHARDS)
    held = next(name for name in places if places[name] == SHARDS[0])
    index.write_text(json.dumps({"weight_map": places | {held: SHARDS[1], "of_nowhere": SHARDS[0]}}))
    with pytest.raises(InputError) as error:
        weights.read(tmp_path, "unet", shapes("unet"))
    assert {line.strip() for line in str(error.value).splitlines()[1:-1]} == {
        f"missing in {SHARDS[1]}, where the index lists it: {held}",
        f"missing in {SHARDS[0]}, where the index lists it: of_nowhere",
    }


@pytest.mark.parametrize(
    ("index", "shards"),
    [
        (
            f"{STEM}.safetensors.index.fp16.json",
            [f"{STEM}.fp16-0000{i}-of-00002.safetensors" for i in (1, 2)],
        ),
        (
            f"{STEM}.safetensors.index.fp16.json",
            [f"{STEM}-0000{i}-of-00002.fp16.safetensors" for i in (1, 2)],
        ),
        (
            f"{STEM}.safetensors.fp16.index.json",
            [f"{STEM}-0000{i}-of-00002.fp16.safetensors" for i in (1, 2)],
        ),
    ],
    ids=["tag before the number", "tag behind the number", "old name of the index"],
)
def test_sharded_variants_are_read_in_every_spelling_where_they_are_asked_for(tmp_path, index, shards):
    zeros = {name: np.zeros_like(tensor) for name, tensor in stored("unet").items()}
    write_shards(tmp_path, zeros, f"{STEM}.safetensors.index.json", SHARDS)
    write_shards(tmp_path, stored("unet"), index, shards)
    assert same(weights.read(tmp_path, "unet", shapes("unet"), variant="fp16"), parameters("unet"))
    plain = weights.read(tmp_path, "unet", shapes("unet"))  # without being asked for, they are not read
    assert not any(leaf.any() for leaf in jax.tree.leaves(plain))
    names = [item.name for item in tmp_path.iterdir()]
    assert chosen_files(names, "unet", "fp16", "") == [index, *sorted(shards)]  # what a download needs
    assert chosen_files(names, "unet", None, "") == [f"{STEM}.safetensors.index.json", *SHARDS]


def test_a_variant_is_read_where_it_is_alone_and_asked_for_where_there_are_two(tmp_path):
    original = SD1 / f"unet/{STEM}.safetensors"
    shutil.copy(original, tmp_path / f"{STEM}.fp16.safetensors")
    assert same(weights.read(tmp_path, "unet", shapes("unet")), parameters("unet"))
    shutil.copy(original, tmp_path / f"{STEM}.non_ema.safetensors")
    with pytest.raises(InputError, match="variants fp16, non_ema: choose one"):
        weights.read(tmp_path, "unet", shapes("unet"))
    with pytest.raises(InputError, match=r"variant 'bf16' in .*its variants: fp16, non_ema"):
        weights.read(tmp_path, "unet", shapes("unet"), variant="bf16")


def test_dense_layers_and_convolutions_of_size_1_stand_for_one_another(tmp_path):
    # Stable Diffusion 1 projects by convolutions, 2 by dense layers; the autoencoder's attention was convolutions once.
    def is_attention(name):
        return ".attentions." in name and name.endswith(
            ("key.weight", "query.weight", "value.weight", "attn.weight")
        )

    old = {
        name: tensor[:, :, None, None] if is_attention(name) else tensor
        for name, tensor in stored("vae").items()
    }
    assert sum(tensor.ndim == 4 for tensor in old.values()) == 8 + sum(
        tensor.ndim == 4 for tensor in stored("vae").values()
    )
    save_file(old, tmp_path / f"{STEM}.safetensors")
    assert same(weights.read(tmp_path, "vae", shapes("vae")), parameters("vae"))
    dense = {
        name: tensor[:, :, 0, 0] if re.search(r"proj_(in|out)\.weight", name) else tensor
        for name, tensor in stored("unet").items()
    }
    save_file(dense, tmp_path / f"{STEM}.safetensors")
    assert same(weights.read(tmp_path, "unet", shapes("unet")), parameters("unet"))


def test_parameters_are_put_where_the_sharding_says(tmp_path):
    sharding = everywhere(generation_mesh())
    read = weights.read(SD1 / "vae", "vae", shapes("vae"), sharding=sharding)
    assert {leaf.sharding for leaf in jax.tree.leaves(read)} == {sharding}
    assert same(read, parameters("vae"))


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


def test_of_hundreds_of_wrong_tensors_some_are_shown_and_the_rest_is_counted(tmp_path):
    tensors = {f"other.{name}": tensor for name, tensor in stored("unet").items()}
    save_file(tensors, tmp_path / f"{STEM}.safetensors")
    with pytest.raises(InputError) as error:
        weights.read(tmp_path, "unet", shapes("unet"))
    lines = str(error.value).splitlines()
    assert (
        sum("left over: other." in line for line in lines) == sum("missing: " in line for line in lines) == 20
    )
    assert [line.strip() for line in lines if "more" in line] == [
        f"... and {len(tensors) - 20} more left over",
        f"... and {len(tensors) - 20} more missing",
    ]


def test_whole_numbers_are_refused(tmp_path):
    tensors = stored("unet")
    tensors["conv_in.weight"] = tensors["conv_in.weight"].astype(np.int8)
    save_file(tensors, tmp_path / f"{STEM}.safetensors")
    with pytest.raises(InputError, match=r"not of a floating type: conv_in\.weight is int8"):
        weights.read(tmp_path, "unet", shapes("unet"))


def test_quantised_types_that_numpy_has_no_name_for_are_refused(tmp_path):
    tensors = stored("unet")
    tensors["conv_in.weight"] = tensors["conv_in.weight"].astype(ml_dtypes.float8_e4m3fn)
    save_file(tensors, tmp_path / f"{STEM}.safetensors")
    with pytest.raises(
        InputError, match=r"1 tensor\(s\) in .*quantised, the first is conv_in\.weight in F8_E4M3"
    ):
        weights.read(tmp_path, "unet", shapes("unet"))


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


@pytest.mark.parametrize("data", [b"", b"\x81\xa1a", b"\x01"], ids=["empty", "cut", "no tree"])
def test_a_flax_file_that_was_cut_off_is_named(tmp_path, data):
    (tmp_path / "diffusion_flax_model.msgpack").write_bytes(data)
    with pytest.raises(InputError, match=r"diffusion_flax_model\.msgpack cannot be read"):
        weights.read(tmp_path, "unet", shapes("unet"))


def test_pickles_are_refused_with_the_way_out(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(InputError, match=r"pytorch_model\.bin.*not read.*jaxcil convert-pipeline"):
        weights.read(tmp_path, "text_encoder", shapes("text_encoder"))


def test_what_does_not_fit_float16_is_not_written(tmp_path):
    large = jax.tree.map(np.array, parameters("vae"))
    large["quant_conv"]["bias"][0] = 1e6
    with pytest.raises(InputError, match=r"quant_conv\.bias"):
        weights.write(tmp_path, "vae", large, np.float16)
    assert not list(tmp_path.iterdir())
    weights.write(tmp_path, "vae", large, np.float32)
