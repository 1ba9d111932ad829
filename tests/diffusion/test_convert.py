"""Converted pipelines: needs the extra "convert", and is skipped without it."""

import json
import pathlib
import re
import shutil

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import jaxcil.diffusion as sd
from jaxcil.cli import main as command
from jaxcil.diffusion.convert import convert
from jaxcil.diffusion.tensor_files import STEMS
from jaxcil.errors import InputError

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
pytest.importorskip("transformers")

SD1 = pathlib.Path(__file__).parents[1] / "golden/stable_diffusion/sd1"
pytestmark = pytest.mark.filterwarnings("default")  # torch's libraries warn of many things of their own


@pytest.fixture(scope="module")
def model():
    return sd.load(SD1)


def equal(one, two):
    return jax.tree.all(jax.tree.map(np.array_equal, one, two))


def with_pickles(target):
    """A copy of the pipeline with pickles in place of safetensors."""
    shutil.copytree(SD1, target, ignore=shutil.ignore_patterns("*.npz"))
    for part, stem in STEMS.items():
        file = target / part / f"{stem}.safetensors"
        tensors = {name: torch.from_numpy(value) for name, value in load_file(file).items()}
        torch.save(tensors, file.with_name("pytorch_model.bin" if stem == "model" else f"{stem}.bin"))
        file.unlink()
    return target


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_a_folder_of_pickles_becomes_the_same_model(model, tmp_path, dtype):
    source = with_pickles(tmp_path / "source")
    with pytest.raises(InputError, match="jaxcil convert-pipeline"):
        sd.load(source)
    target = tmp_path / "target"
    convert(source, target, dtype)
    loaded = sd.load(target)
    assert equal(loaded.parameters, model.parameters)  # they are exact in all three
    assert loaded.scheduler == model.scheduler
    prompts = json.loads(str(np.load(SD1 / "golden.npz")["tok/prompts_json"]))
    np.testing.assert_array_equal(loaded.tokenize(prompts), model.tokenize(prompts))
    stored = load_file(target / "unet/diffusion_pytorch_model.safetensors")
    assert {tensor.dtype.name for tensor in stored.values()} == {dtype}
    assert not [*target.rglob("*.bin"), *tmp_path.glob(".*")]


# From names of diffusers to those of the original code, for two levels with two layers each.
RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
TOP = {
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
VAE = {
    "conv_norm_out": "norm_out",
    "conv_shortcut": "nin_shortcut",
    "downsamplers.0": "downsample",
    "upsamplers.0": "upsample",
    "mid_block.attentions.0": "mid.attn_1",
    "mid_block.resnets.0": "mid.block_1",
    "mid_block.resnets.1": "mid.block_2",
    "group_norm": "norm",
    ".query.": ".q.",
    ".key.": ".k.",
    ".value.": ".v.",
    ".proj_attn.": ".proj_out.",
    "down_blocks": "down",
    "up_blocks.0": "up.2",
    "up_blocks.1": "up.1",
    "up_blocks.2": "up.0",
    "resnets": "block",
}


def original_unet_name(name):
    for ours, theirs in TOP.items():
        if name.startswith(f"{ours}."):
            return theirs + name.removeprefix(ours)
    half, block, kind, layer, rest = re.fullmatch(
        r"(down|mid|up)_block(?:s\.(\d+))?\.(\w+?)\.(\d+)\.(.*)", name
    ).groups()
    if half == "mid":
        place = f"middle_block.{2 * int(layer) if kind == 'resnets' else 1}"
    elif kind == "downsamplers":
        return f"input_blocks.{1 + 3 * int(block) + 2}.0.op.{rest.removeprefix('conv.')}"
    elif kind == "upsamplers":  # behind the resnet, and behind the attention where the level has one
        return f"output_blocks.{3 * int(block) + 2}.{1 if block == '0' else 2}.{rest}"
    else:
        start = "input_blocks" if half == "down" else "output_blocks"
        number = 3 * int(block) + int(layer) + (half == "down")
        place = f"{start}.{number}.{0 if kind == 'resnets' else 1}"
    for ours, theirs in RESNET.items() if kind == "resnets" else ():
        rest = re.sub(rf"^{ours}\.", f"{theirs}.", rest)
    return f"{place}.{rest}"


def original_vae_name(name):
    for ours, theirs in VAE.items():
        name = name.replace(ours, theirs)
    return name


def original_checkpoint():
    """The pipeline as one dict of tensors with the names of CompVis' code; its attention in the VAE is convolutions."""
    unet = load_file(SD1 / "unet/diffusion_pytorch_model.safetensors")
    tensors = {f"model.diffusion_model.{original_unet_name(name)}": tensor for name, tensor in unet.items()}
    for name, tensor in load_file(SD1 / "vae/diffusion_pytorch_model.safetensors").items():
        name = original_vae_name(name)
        dense = ".mid.attn_1." in name and tensor.ndim == 2
        tensors[f"first_stage_model.{name}"] = tensor[:, :, None, None] if dense else tensor
    for name, tensor in load_file(SD1 / "text_encoder/model.safetensors").items():
        tensors[f"cond_stage_model.transformer.{name}"] = tensor
    return tensors


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_a_single_file_of_the_original_code_becomes_the_same_model(model, tmp_path, suffix):
    file = tmp_path / f"v1{suffix}"
    tensors = original_checkpoint()
    if suffix == ".ckpt":
        torch.save({"state_dict": {name: torch.from_numpy(value) for name, value in tensors.items()}}, file)
    else:
        save_file(tensors, file)
    convert(file, tmp_path / "target", config_folder=SD1)
    loaded = sd.load(tmp_path / "target")
    assert equal(loaded.parameters, model.parameters)
    assert loaded.scheduler == model.scheduler


def write_lora(file, form, rank, alpha):
    """Random additions to the attention of the UNet, made by peft or as kohya's scripts write them.

    Returns (B A) alpha / rank in float64 by the name of the weight.
    """
    generator = np.random.default_rng(1)
    weights = load_file(SD1 / "unet/diffusion_pytorch_model.safetensors")
    names = [name for name in weights if re.search(r"attn[12]\.to_(q|v)\.weight$", name)]
    factors = {
        name: (
            generator.standard_normal((rank, weights[name].shape[1])).astype(np.float32),
            generator.standard_normal((weights[name].shape[0], rank)).astype(np.float32),
        )
        for name in names
    }
    if form == "kohya":
        tensors = {}
        for name, (a, b) in factors.items():
            stem = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
            tensors |= {
                f"{stem}.lora_down.weight": a,
                f"{stem}.lora_up.weight": b,
                f"{stem}.alpha": np.array(alpha, np.float32),
            }
        save_file(tensors, file)
    else:
        peft = pytest.importorskip("peft")
        unet = diffusers.UNet2DConditionModel.from_pretrained(SD1 / "unet")
        unet.add_adapter(peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=["to_q", "to_v"]))
        for name, (a, b) in factors.items():
            layer = unet.get_submodule(name.removesuffix(".weight"))
            layer.lora_A["default"].weight.data = torch.from_numpy(a)
            layer.lora_B["default"].weight.data = torch.from_numpy(b)
        diffusers.StableDiffusionPipeline.save_lora_weights(
            file.parent,
            unet_lora_layers=peft.utils.get_peft_model_state_dict(unet),
            weight_name=file.name,
            unet_lora_adapter_metadata=unet.peft_config["default"].to_dict(),
        )
    return {name: b.astype(np.float64) @ a * (alpha / rank) for name, (a, b) in factors.items()}


@pytest.mark.parametrize("form", ["peft", "kohya"])
def test_a_lora_is_added_to_the_weights_it_names(tmp_path, form):
    pytest.importorskip("peft")
    added = write_lora(tmp_path / "style.safetensors", form, rank=4, alpha=2)
    convert(SD1, tmp_path / "target", "float32", lora=tmp_path / "style.safetensors", lora_scale=0.8)
    before = load_file(SD1 / "unet/diffusion_pytorch_model.safetensors")
    after = load_file(tmp_path / "target/unet/diffusion_pytorch_model.safetensors")
    assert len(added) == 2 * sum(
        name.endswith("to_k.weight") for name in before
    )  # all queries and all values
    assert before.keys() == after.keys()
    for name in before:
        # float32 sums of four products
        expected = before[name].astype(np.float64) + 0.8 * added.get(name, 0)
        np.testing.assert_allclose(after[name], expected, rtol=1e-5, atol=1e-5)
    for part in ("vae", "text_encoder"):
        ours, theirs = (sd.load(folder).parameters[part] for folder in (tmp_path / "target", SD1))
        assert equal(ours, theirs)


def test_the_command_converts_and_says_where_to(tmp_path, capsys):
    with pytest.raises(SystemExit, match="0"):
        command.main(["convert-pipeline", str(SD1), str(tmp_path / "target"), "--dtype=float32"])
    assert capsys.readouterr().out.strip().endswith(str(tmp_path / "target"))
    assert (tmp_path / "target/model_index.json").is_file()


def no_lora(folder):
    save_file({"weight": np.zeros(3, np.float32)}, folder / "source.safetensors")
    return SD1, {"lora": folder / "source.safetensors"}


def lora_of_another_network(folder):
    tensors = {
        "unet.blocks.7.to_q.lora_A.weight": np.zeros((4, 16), np.float32),
        "unet.blocks.7.to_q.lora_B.weight": np.zeros((16, 4), np.float32),
    }
    save_file(tensors, folder / "source.safetensors")
    return SD1, {"lora": folder / "source.safetensors"}


def poisoned(folder):
    with_pickles(folder / "source")
    torch.save({"conv_in.weight": Running()}, folder / "source/unet/diffusion_pytorch_model.bin")
    return folder / "source", {}


class Running:
    """Would write a file while it is unpickled."""

    def __reduce__(self):
        return pathlib.Path("was_run").touch, ()


def not_finite(folder):
    source = with_pickles(folder / "source")
    tensors = torch.load(source / "vae/diffusion_pytorch_model.bin")
    tensors["quant_conv.bias"][0] = torch.nan
    torch.save(tensors, source / "vae/diffusion_pytorch_model.bin")
    return source, {}


def other_networks(folder):
    save_file({"a": np.zeros(3, np.float32)}, folder / "source.safetensors")
    return folder / "source.safetensors", {"config_folder": SD1}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (no_lora, r"source\.safetensors cannot be read as a LoRA"),
        (lora_of_another_network, r"source\.safetensors"),
        (poisoned, "cannot be converted"),
        (not_finite, r"not finite in float32: quant_conv\.bias"),
        (other_networks, "cannot be converted"),
    ],
    ids=["no lora", "another lora", "a pickle that runs code", "not finite", "no checkpoint"],
)
def test_what_cannot_be_converted_leaves_nothing_behind(tmp_path, monkeypatch, make, message):
    monkeypatch.chdir(tmp_path)
    source, options = make(tmp_path)
    with pytest.raises(InputError, match=message):
        convert(source, tmp_path / "target", **options)
    assert {item.name for item in tmp_path.iterdir()} <= {"source", "source.safetensors"}
