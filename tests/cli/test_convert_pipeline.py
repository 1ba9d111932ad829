"""jaxcil convert-pipeline, as far as it goes without torch."""

import pathlib
import sys

import pytest

from jaxcil.cli import convert_pipeline
from jaxcil.errors import InputError

SD1 = pathlib.Path(__file__).parents[1] / "golden/stable_diffusion/sd1"


@pytest.mark.parametrize("library", ["torch", "transformers", "peft"])
def test_without_the_extra_its_name_is_told(tmp_path, monkeypatch, library):
    for name in ("torch", "transformers", "peft"):
        monkeypatch.setitem(sys.modules, name, None if name == library else pathlib)
    with pytest.raises(InputError, match=rf'needs {library}.*pip install "jaxcil\[convert\]"'):
        convert_pipeline.main([str(SD1), str(tmp_path / "target")])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected a source and a target, got none"),
        (["SD1"], "expected a source and a target"),
        (["SD1", "target", "--lora_scale=0.5"], "give it with --lora=FILE"),
        (["SD1", "target", "--lora_scale=much", "--lora=x"], "lora_scale"),
        (["SD1", "target", "--loar=x"], "loar"),
        (["SD1", "target", "--dtype=half"], "no dtype to save a pipeline in 'half'"),
        (["SD1", "target", "--lora=absent.safetensors"], "there is no file absent.safetensors"),
        (["SD1", "target", "--config_folder=SD1"], "config folder is for single files"),
        (["SD1/unet", "target"], r"unet holds no model_index\.json"),
        (["./absent", "target"], r"there is no \./absent"),
        (["SD1/model_index.json", "target"], r"no kind of single file '\.json'.*\.ckpt"),
        (
            ["SD1/unet/diffusion_pytorch_model.safetensors", "t", "--config_folder=SD1/unet"],
            r"unet holds no model_index",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_wrong_with_a_call_is_said_before_anything_is_read(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        convert_pipeline.main([argument.replace("SD1", str(SD1)) for argument in arguments])
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_there_is_not_written_over(tmp_path, monkeypatch):
    for name in ("torch", "transformers", "peft"):
        monkeypatch.setitem(sys.modules, name, pathlib)
    (tmp_path / "target").mkdir()
    (tmp_path / "target/file").touch()
    with pytest.raises(InputError, match="target already exists"):
        convert_pipeline.main([str(SD1), str(tmp_path / "target")])
