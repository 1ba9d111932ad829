"""Folders that are not a whole pipeline, and what is said of them."""

import json
import pathlib
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import jaxcil.diffusion as sd
from jaxcil.errors import InputError
from jaxcil.synthesis.drawing.models import load_model

SD1 = pathlib.Path(__file__).parents[1] / "golden/stable_diffusion/sd1"
UNET = "unet/diffusion_pytorch_model.safetensors"


def removed(*names):
    """Takes files or folders out of a pipeline."""

    def remove(folder):
        for name in names:
            path = folder / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return remove


def written(name, text):
    """Puts other bytes into a file of a pipeline."""
    return lambda folder: (folder / name).write_bytes(text)


def set_in(name, **values):
    """Changes values in a JSON file of a pipeline; None removes them."""

    def change(folder):
        old = json.loads((folder / name).read_text()) | values
        (folder / name).write_text(
            json.dumps({key: value for key, value in old.items() if value is not None})
        )

    return change


def with_tensor(file, name, value):
    """Puts a value in place of all numbers of a tensor; None removes it."""

    def change(folder):
        tensors = load_file(folder / file)
        old = tensors.pop(name)
        if value is not None:
            tensors[name] = np.full_like(old, value)
        save_file(tensors, folder / file)

    return change


def pickled(folder):
    (folder / UNET).rename((folder / UNET).with_suffix(".bin"))


BROKEN = {
    "no index": (removed("model_index.json"), "not a folder with a Stable Diffusion pipeline"),
    "index is no JSON": (written("model_index.json", b"{"), r"model_index\.json cannot be read"),
    "index is a list": (
        written("model_index.json", b"[1]"),
        r"model_index\.json cannot be read as a JSON object",
    ),
    "index names no network": (set_in("model_index.json", vae=None), r"model_index\.json names no vae"),
    "index names nothing": (set_in("model_index.json", vae=[None, None]), r"model_index\.json names no vae"),
    "another pipeline": (
        set_in("model_index.json", unet=["diffusers", "FluxTransformer2DModel"]),
        "unet .* must be a UNet2DConditionModel, but .* FluxTransformer2DModel",
    ),
    "no scheduler": (removed("scheduler"), r"there is no .*scheduler/scheduler_config\.json"),
    "scheduler is no JSON": (
        written("scheduler/scheduler_config.json", b"beta: 1"),
        r"scheduler_config\.json cannot be read",
    ),
    "no network": (removed("unet"), r"there is no .*unet/config\.json"),
    "no configuration": (removed("vae/config.json"), r"there is no .*vae/config\.json"),
    "configuration is no JSON": (written("unet/config.json", b'{"a": '), r"unet/config\.json cannot be read"),
    "configuration is no text": (
        written("vae/config.json", b"\xff\xfe\x00"),
        r"vae/config\.json cannot be read",
    ),
    "configuration of another width": (
        set_in("unet/config.json", cross_attention_dim=64),
        "width 64.*returns 32",
    ),
    "configuration of another depth": (set_in("vae/config.json", layers_per_block=2), "missing: .*resnets"),
    "no weights": (removed(UNET), r"no weights in .*unet: expected diffusion_pytorch_model\.safetensors"),
    "pickled weights": (pickled, r"unet holds .*\.bin: pickles .* jaxcil convert-pipeline"),
    "empty weights": (
        written(UNET, b""),
        r"unet/.*\.safetensors cannot be read as safetensors.*Fetch it again",
    ),
    "weights are a web page": (written(UNET, b"<!doctype html><html>404"), "cannot be read as safetensors"),
    "weights are a pointer": (
        written(UNET, b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"),
        "cannot be read as safetensors",
    ),
    "NaN in a weight": (
        with_tensor(UNET, "conv_in.weight", np.nan),
        r"unet do not fit(.|\n)*not finite in float32: conv_in\.weight",
    ),
    "infinity in a weight": (
        with_tensor("text_encoder/model.safetensors", "text_model.final_layer_norm.bias", np.inf),
        r"text_encoder do not fit(.|\n)*not finite in float32: text_model\.final_layer_norm\.bias",
    ),
    "a weight is missing": (
        with_tensor(UNET, "conv_out.bias", None),
        r"unet do not fit(.|\n)*missing: conv_out\.bias",
    ),
    "no tokenizer": (removed("tokenizer"), "no tokenizer in .*expected"),
    "half a tokenizer": (
        removed("tokenizer/tokenizer.json", "tokenizer/merges.txt"),
        r"there is no merges\.txt",
    ),
    "tokenizer is no JSON": (written("tokenizer/tokenizer.json", b"{"), "tokenizer in .* cannot be read"),
    "tokenizer of another size": (
        set_in("text_encoder/config.json", vocab_size=600),
        "640 tokens, the text encoder 600",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_wrong_with_a_folder_is_said(tmp_path, case):
    spoil, message = BROKEN[case]
    folder = tmp_path / "pipeline"
    shutil.copytree(SD1, folder)
    spoil(folder)
    with pytest.raises(InputError, match=message):
        sd.load(folder)


def test_a_file_is_no_folder(tmp_path):
    with pytest.raises(InputError, match=r"not a folder .* jaxcil convert-pipeline"):
        sd.load(SD1 / UNET)
    with pytest.raises(InputError, match="not a folder"):
        sd.load(tmp_path / "absent" / "model")


def test_a_folder_has_no_revisions():
    with pytest.raises(InputError, match="is a folder, which has no revisions"):
        sd.load(SD1, revision="main")


def test_a_variant_of_which_there_is_none_is_refused():
    with pytest.raises(InputError, match=r"variant 'fp16' in .*its variants: none"):
        sd.load(SD1, variant="fp16")


def test_a_dtype_that_pipelines_are_not_saved_in_is_refused(tmp_path):
    with pytest.raises(
        InputError, match="no dtype to save a pipeline in 'float64'; there are: float16, bfloat16, float32"
    ):
        sd.save(tmp_path, sd.load(SD1), "float64")


def test_names_of_models_are_embedded_ones_folders_or_names_on_the_hub():
    with pytest.raises(
        InputError, match="'tests/model' is not a folder here, and the hub's cache does not hold it"
    ):
        load_model("tests/model")
    with pytest.raises(InputError, match=r"no embedded generator 'digit'.*OWNER/MODEL"):
        load_model("digit")


def test_a_refused_save_leaves_what_stands_there(tmp_path):
    model = sd.load(SD1)
    sd.save(tmp_path, model)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    vae = dict(model.parameters["vae"]) | {
        "quant_conv": {"kernel": np.full((1, 1, 8, 8), 1e6), "bias": np.ones(8)}
    }
    with pytest.raises(
        InputError, match=r"not finite in float16, so nothing was written: quant_conv\.weight"
    ):
        sd.save(tmp_path, model.replace(parameters=model.parameters | {"vae": vae}))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "name",
    [
        "diffusion_pytorch_model.safetensors.index.json",
        "diffusion_pytorch_model-00001-of-00002.safetensors",
        "diffusion_pytorch_model.fp16.safetensors",
        "diffusion_pytorch_model.bin",
        "diffusion_flax_model.msgpack",
    ],
)
def test_saving_takes_away_weights_that_a_reader_might_prefer(name, tmp_path):
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / name).write_bytes(b"old")
    (tmp_path / "unet/notes.txt").write_text("mine")
    sd.save(tmp_path, sd.load(SD1))
    kept = {path.name for path in (tmp_path / "unet").iterdir()}
    assert kept == {"config.json", "diffusion_pytorch_model.safetensors", "notes.txt"}
