"""What people give `generate`, `verify` and `import-images` that cannot be used: a message, no traceback.

Each row damages one thing of a good model, a good set or a good source, and calls the command. No network runs: bad
input is told before anything is compiled, and the damage of a set is found without its model.
"""

import io
import json
import pathlib
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from jaxcil.cli import main as command
from jaxcil.synthesis.drawing import generate as generation
from jaxcil.synthesis.drawing.models import generate_by_name

SD1 = pathlib.Path(__file__).parents[1] / "golden/stable_diffusion/sd1"
UNET = "unet/diffusion_pytorch_model.safetensors"
SIDE = 16


class Row(NamedTuple):
    """Damage, the arguments that meet it, and pieces of the message."""

    damage: Callable[[pathlib.Path], None]  # of a folder with model/, set/ and source/
    arguments: str  # HERE is that folder
    told: tuple[str, ...]
    status: int = 2


def tensors(change):
    """Damage of the UNet's weights by a function of the dict of tensors."""

    def damage(root):
        path = root / "model" / UNET
        held = load_file(path)
        change(held)
        save_file(held, path)

    return damage


def without_a_tensor(held):
    del held["conv_in.bias"]


def with_another_tensor(held):
    held["conv_in.gain"] = np.zeros(1, np.float16)


def of_another_shape(held):
    held["conv_in.bias"] = np.zeros(3, np.float16)


def not_a_number(held):
    held["mid_block.resnets.0.conv1.weight"][0, 0, 0, 0] = np.nan


def all_at_once(held):
    without_a_tensor(held)
    with_another_tensor(held)
    not_a_number(held)


def removed(name):
    def damage(root):
        path = root / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()

    return damage


def cut(name, share=0.5):
    def damage(root):
        data = (root / name).read_bytes()
        (root / name).write_bytes(data[: int(len(data) * share)])

    return damage


def flipped(name):
    """One bit of the byte in the middle."""

    def damage(root):
        data = bytearray((root / name).read_bytes())
        data[len(data) // 2] ^= 1
        (root / name).write_bytes(data)

    return damage


def edited(name, **changes):
    """Fields of a JSON file."""

    def damage(root):
        fields = json.loads((root / name).read_text())
        (root / name).write_text(json.dumps(fields | changes))

    return damage


def pickled(root):
    (root / "model" / UNET).unlink()
    (root / "model/unet/diffusion_pytorch_model.bin").write_bytes(b"\x80\x04.")


def sharded_with_a_file_missing(root):
    (root / "model" / UNET).unlink()
    index = {"weight_map": {"conv_in.bias": "diffusion_pytorch_model-00001-of-00002.safetensors"}}
    (root / "model" / f"{UNET}.index.json").write_text(json.dumps(index))


def nothing(root):
    pass


def archive(name, members, cut=None):
    """A zip or tar in place of the source folder."""

    def damage(root):
        shutil.rmtree(root / "source")
        (root / "source").mkdir()
        path = root / "source" / name
        if path.suffix == ".zip":
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
                for member, data in members.items():
                    file.writestr(member, data)
        else:
            with tarfile.open(path, "w") as file:
                for member, data in members.items():
                    info = tarfile.TarInfo(member)
                    info.size = len(data)
                    file.addfile(info, io.BytesIO(data))
        path.write_bytes(path.read_bytes()[:cut])

    return damage


def encoded():
    buffer = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE), "red").save(buffer, "PNG")
    return buffer.getvalue()


def a_picture_that_is_none(root):
    (root / "source/cat/1.png").write_bytes(encoded()[:40])


def a_file_for_a_directory(root):
    (root / "new").write_text("")


SHARD = "set/synthetic-train.array_record-00000"
GENERATE = (
    "generate --config=generate_digits --workdir=HERE/new --config.model=HERE/model --config.image_size=16 "
)
AGAIN = (
    "generate --config=generate_digits --workdir=HERE/set --config.model=HERE/model --config.class_names=cat,dog "
    "--config.templates={} --config.images_per_class=2 --config.nfe=1 --config.batch_size=1 "
    "--config.shard_size=3 --config.image_size=16 "
)
IMPORT = "import-images HERE/source --workdir=HERE/new "
VERIFY = "verify HERE/set"
TABLE = {
    # the model
    "tensor missing": Row(tensors(without_a_tensor), GENERATE, ("missing: conv_in.bias",)),
    "tensor left over": Row(tensors(with_another_tensor), GENERATE, ("left over: conv_in.gain",)),
    "tensor misshaped": Row(tensors(of_another_shape), GENERATE, ("misshaped: conv_in.bias", "[3]", "[16]")),
    "NaN in a weight": Row(
        tensors(not_a_number), GENERATE, ("not finite", "mid_block.resnets.0.conv1.weight")
    ),
    "several at once": Row(tensors(all_at_once), GENERATE, ("missing:", "left over:", "not finite")),
    "weights cut off": Row(cut(f"model/{UNET}"), GENERATE, ("cannot be read as safetensors", "unet")),
    "weights gone": Row(removed(f"model/{UNET}"), GENERATE, ("no weights in", "safetensors")),
    "weights are a pickle": Row(pickled, GENERATE, ("pickle", "convert-pipeline")),
    "a shard of the weights gone": Row(
        sharded_with_a_file_missing, GENERATE, ("-00001-of-00002.safetensors",)
    ),
    "no scheduler": Row(removed("model/scheduler"), GENERATE, ("scheduler_config.json",)),
    "no model_index.json": Row(removed("model/model_index.json"), GENERATE, ("model_index.json",)),
    "no text encoder": Row(removed("model/text_encoder"), GENERATE, ("text_encoder", "config.json")),
    "no tokenizer": Row(removed("model/tokenizer"), GENERATE, ("tokenizer",)),
    "config.json cut off": Row(cut("model/unet/config.json"), GENERATE, ("config.json", "cannot be read")),
    "a network of another kind": Row(
        edited("model/unet/config.json", addition_embed_type="text_time"), GENERATE, ("addition_embed_type",)
    ),
    "no such model": Row(removed("model"), GENERATE, ("/model",)),
    # the request
    "template without a place": Row(nothing, f"{GENERATE} --config.templates=a_cat", ("template", "a_cat")),
    "class named twice": Row(
        nothing, f"{GENERATE} --config.class_names=cat,cat", ("'cat' occur more than once",)
    ),
    "guidance is no number": Row(
        nothing, f"{GENERATE} --config.guidance_scale=nan", ("guidance_scale", "finite")
    ),
    "no images": Row(nothing, f"{GENERATE} --config.images_per_class=0", ("images_per_class", "from 1 to")),
    "a field that is not there": Row(nothing, f"{GENERATE} --config.clases=cat", ("clases", "class")),
    "unknown class list": Row(nothing, f"{GENERATE} --config.class_list=cifar11", ("cifar11", "cifar10")),
    "no such plan": Row(nothing, f"{GENERATE} --config.plan=HERE/plan.json", ("plan.json", "cannot be read")),
    "a file in the directory's place": Row(a_file_for_a_directory, GENERATE, ("/new", "cannot be written")),
    # the set
    "another config": Row(nothing, f"{AGAIN} --config.seed=1", ("another config", "seed: there 0, now 1")),
    "fewer images than there are": Row(nothing, AGAIN.replace("class=2", "class=1"), ("may only grow",)),
    "manifest cut off": Row(cut("set/manifest.json"), VERIFY, ("manifest.json", "cannot be read")),
    "manifest gone": Row(removed("set/manifest.json"), VERIFY, ("no synthetic data set",)),
    "shard gone": Row(removed(SHARD), VERIFY, ("array_record-00000: is missing", "cat/0"), 1),
    "shard cut off": Row(cut(SHARD), VERIFY, ("array_record-00000:", "cat/0"), 1),
    "a bit flipped": Row(flipped(SHARD), VERIFY, ("array_record-00000:",), 1),
    "repair by another model": Row(
        removed(SHARD), f"{VERIFY} --repair --model=digits", ("was drawn by a model with SHA-256",)
    ),
    # images of another tool
    "an archive that is none": Row(archive("cat.tar", {"a.png": encoded()}, cut=600), IMPORT, ("cat.tar",)),
    "member is no image": Row(archive("cat.zip", {"a.png": b"not an image"}), IMPORT, ("cat.zip", "a.png")),
    "image cut off": Row(a_picture_that_is_none, IMPORT, ("cat/1.png",)),
    "no images at all": Row(removed("source/cat/0.png"), IMPORT, ("source",)),
    "no source": Row(removed("source"), IMPORT, ("source",)),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A model, a set that it drew (its network replaced), and images of another tool."""
    root = tmp_path_factory.mktemp("good")
    shutil.copytree(SD1, root / "model")

    def draw(ids, keys, scales):
        ramp = np.linspace(-1, 1, SIDE * SIDE * 3, dtype=np.float32).reshape(SIDE, SIDE, 3)
        return ramp * (ids.sum(1) % 7 / 7)[:, None, None, None] + 0.1 * ramp

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generation, "drawing", lambda *arguments: draw)
        generate_by_name(
            root / "set",
            ("cat", "dog"),
            model=str(root / "model"),
            order=3,
            nfe=1,
            images_per_class=2,
            templates=("{}",),
            batch_size=1,
            shard_size=3,
            image_size=SIDE,
        )
    (root / "source/cat").mkdir(parents=True)
    (root / "source/cat/0.png").write_bytes(encoded())
    return root


def contents(root):
    """All folders and files; of locks only that they are there, since they say who held them."""
    return {
        path: path.read_bytes() if path.is_file() and path.name != ".lock" else b""
        for path in root.rglob("*")
    }


@pytest.mark.parametrize("row", TABLE.values(), ids=TABLE)
def test_bad_input_is_told_in_a_message_and_leaves_nothing_half_made(
    row, good, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    root = tmp_path / "here"
    shutil.copytree(good, root)
    row.damage(root)
    before = contents(root)
    with pytest.raises(SystemExit) as exit_:
        command.main(row.arguments.replace("HERE", str(root)).split())
    printed = capsys.readouterr()
    said = printed.err if row.status == 2 else printed.out
    assert exit_.value.code == row.status, printed
    assert not printed.err or printed.err.startswith("jaxcil: ")
    assert "Traceback" not in printed.err
    for piece in row.told:
        assert piece in said
    assert contents(root) == before
