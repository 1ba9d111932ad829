"""The whole way, with the tiny pipeline of the golden files."""

import json
import pathlib

import jax
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

import jaxcil.diffusion as sd
from jaxcil import keys
from jaxcil.errors import InputError
from jaxcil.solvers import er_sde, scheduler_grid
from jaxcil.synthesis.dataset import store
from jaxcil.synthesis.dataset.manifest import read_manifest
from jaxcil.synthesis.drawing import batches
from jaxcil.synthesis.drawing import generate as generation
from jaxcil.synthesis.drawing.generate import fingerprint, generate

SD1 = pathlib.Path(__file__).parents[2] / "golden/stable_diffusion/sd1"
OPTIONS = {"templates": ("a photo of a {}", "{}"), "batch_size": 1, "shard_size": 3, "seed": 5}


@pytest.fixture(scope="module")
def model():
    return sd.load(SD1)


@pytest.fixture(scope="module")
def plan(model):
    return er_sde(scheduler_grid(model.scheduler_config, 2, final="zero"))


@pytest.fixture(scope="module")
def made(model, plan, tmp_path_factory):
    """Two classes of three images; tests only read it."""
    directory = tmp_path_factory.mktemp("made") / "set"
    generate(directory, model, plan, ("cat", "sea_lion"), 3, **OPTIONS)
    return directory


def test_a_set_has_the_images_the_pipeline_draws(made, model, plan):
    batches, labels, class_names = store.read(made)
    assert class_names == ("cat", "sea_lion")
    np.testing.assert_array_equal(labels, [0, 0, 0, 1, 1, 1])
    image_keys = keys.image_keys(keys.root_key(5), np.array([0, 1], np.uint32), np.array([1, 2], np.uint32))
    ids = model.tokenize(["cat", "a photo of a sea lion"])
    drawn = np.asarray(jax.jit(sd.text_to_image)(model, plan, ids, image_keys))
    # Another batch size: equal noise, and pixels to the rounding of the network.
    np.testing.assert_allclose(batches[[1, 5]], (drawn / 2 + 0.5) * 255, atol=0.6)


def test_a_set_has_a_manifest_a_card_and_a_sheet(made):
    manifest = json.loads((made / "manifest.json").read_text())
    assert manifest["images_per_class"] == 3
    assert len(manifest["config"]["plan"]["keep"]) == 2
    assert "a photo of a cat" in (made / "README.md").read_text()
    with Image.open(made / "contact_sheet.png") as sheet:
        assert sheet.mode == "RGB"


def test_a_second_run_compiles_nothing(made, model, plan, monkeypatch):
    before = {path.name: path.read_bytes() for path in made.iterdir() if path.is_file()}
    monkeypatch.setattr(generation, "drawing", None)
    generate(made, model, plan, ("cat", "sea_lion"), 3, **OPTIONS)
    assert {path.name: path.read_bytes() for path in made.iterdir() if path.is_file()} == before


def test_images_follow_their_own_scale_and_the_negative_prompt(model, plan, tmp_path):
    options = OPTIONS | {"templates": ("a photo of a {}",), "negative_prompt": "blurry"}
    manifest = generate(tmp_path, model, plan, ("cat",), 3, guidance_scale=(1.0, 4.0), **options)
    assert manifest.config["guidance_scale"] == [1.0, 4.0]
    image_keys = keys.image_keys(keys.root_key(5), np.zeros(3, np.uint32), np.arange(3, dtype=np.uint32))
    ids, negative = model.tokenize(["a photo of a cat"] * 3), model.tokenize(["blurry"])
    program = jax.jit(sd.text_to_image)
    drawn = [
        np.asarray(program(model, plan, ids, image_keys, guidance_scale=scale, negative_ids=negative))
        for scale in (1.0, 4.0)
    ]
    expected = (np.stack([drawn[0][0], drawn[1][1], drawn[0][2]]) / 2 + 0.5) * 255
    # As above: pixels to the rounding of the network; the other scale is far off.
    batches = store.read(tmp_path).images
    np.testing.assert_allclose(batches, expected, atol=0.6)
    assert np.abs(batches[1] - (drawn[0][1] / 2 + 0.5) * 255).max() > 2
    card = (tmp_path / "README.md").read_text()
    assert "1, 4 in turn" in card
    assert "blurry" in card


def test_a_format_is_part_of_the_config_where_it_is_not_png(made, model, plan, tmp_path):
    assert set(read_manifest(made).config) == {  # as ever: sets of former versions go on
        *("model", "plan", "templates", "guidance_scale", "seed", "image_size", "batch_size", "shard_size")
    }
    manifest = generate(tmp_path, model, plan, ("cat",), 3, format="jpeg", **OPTIONS)
    assert manifest.config["encoding"] == {"format": "jpeg", "quality": 95}
    builder = tfds.builder_from_directory(str(tmp_path))
    assert builder.info.features["image"].encoding_format == "jpeg"
    with pytest.raises(InputError, match=r"encoding.quality: there 95, now 80"):
        generate(tmp_path, model, plan, ("cat",), 3, format="jpeg", quality=80, **OPTIONS)


def test_workers_make_the_files_of_one_process_and_the_last_one_finishes_them(made, model, plan, tmp_path):
    first = generate(tmp_path, model, plan, ("cat", "sea_lion"), 3, worker="0/2", **OPTIONS)
    assert store.missing_shards(tmp_path, first) == [1]
    assert not (tmp_path / "dataset_info.json").exists()
    generate(tmp_path, model, plan, ("cat", "sea_lion"), 3, worker="1/2", **OPTIONS)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == {
        path.name: path.read_bytes() for path in made.iterdir() if path.is_file()
    }


def test_a_model_with_one_other_parameter_is_another_model(model):
    leaves, tree = jax.tree.flatten(model)
    changed = jax.tree.unflatten(tree, [*leaves[:-1], leaves[-1] + 1e-3])
    assert fingerprint(changed) != fingerprint(model)
    assert fingerprint(sd.load(SD1)) == fingerprint(model)


def config_of_one_request(size=(2, 2)):
    from jaxcil.synthesis.dataset.manifest import Manifest
    from jaxcil.synthesis.dataset.numbering import Requests, extended

    config = {"image_size": list(size), "templates": ["{}"], "guidance_scale": 2.0, "seed": 0}
    return Manifest(config, ("cat",), extended(Requests(), 1, 1, 1), {}, {})


def stored(image, size):
    """What is stored of one drawn image [H, W, 3]."""
    return next(batches.stored(config_of_one_request(size), [0], image[None]))


def test_images_are_rounded_and_not_cut_off():
    image = np.full((2, 2, 3), 0.0, np.float32)
    image[0, 0], image[0, 1], image[1, 0] = -1.2, 1.0, 100.6 / 127.5 - 1
    np.testing.assert_array_equal(stored(image, (2, 2))[..., 0], [[0, 255], [101, 128]])


def test_images_are_resized_to_the_size_asked_for():
    image = np.zeros((8, 8, 3), np.float32)
    image[::2] = 1.0  # stripes: an antialiased reduction is even
    small = stored(image, (2, 4))
    assert small.shape == (2, 4, 3)
    assert np.ptp(small) < 40


def test_an_image_that_is_not_finite_is_refused():
    with pytest.raises(InputError, match=r"NaN or infinity in image cat/0 .request 0."):
        stored(np.full((2, 2, 3), np.nan, np.float32), (2, 2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_names": ()}, "at least one class name"),
        ({"class_names": ("cat", "cat")}, "must differ"),
        ({"images_per_class": 0}, "images_per_class must be from 1 to .*, got 0"),
        ({"batch_size": 0}, "batch_size must be from 1 to"),
        ({"templates": ("a cat",)}, "template"),
        ({"image_size": 0}, "image_size must be from 1 to"),
        ({"guidance_scale": (2.0, float("nan"))}, "guidance_scale must be finite"),
        ({"negative_prompt": "a {a|b}"}, "negative_prompt must be one line"),
        ({"negative_prompt": "blurry", "guidance_scale": (1.0, 1)}, "acts through guidance"),
        ({"phrases": {"dog": ("puppy",)}}, "no class for these phrases 'dog'"),
        ({"format": "jpg"}, "Did you mean 'jpeg'"),
        ({"quality": 90}, "PNG has no quality"),
        ({"format": "jpeg", "quality": 0}, "quality must be from 1 to 100, got 0"),
        ({"format": "webp", "quality": 101}, "quality must be from 1 to 100, got 101"),
        ({"seed": -1}, "seed must be from 0 to"),
        ({"worker": "2/2"}, "worker must be i/n"),
    ],
    ids=[
        *("none", "twice", "images", "batch", "template", "size", "scale", "negative", "unguided", "phrases"),
        *("format", "quality", "lowest", "highest", "seed", "worker"),
    ],
)
def test_useless_arguments_are_refused_before_anything_runs(changes, message, model, plan, tmp_path):
    arguments = {"class_names": ("cat",), "images_per_class": 1, **OPTIONS} | changes
    with pytest.raises(InputError, match=message):
        generate(tmp_path / "set", model, plan, **arguments)
    assert not (tmp_path / "set").exists()


def test_a_directory_that_cannot_be_written_is_refused_before_anything_runs(
    model, plan, tmp_path, monkeypatch
):
    monkeypatch.setattr(generation, "drawing", None)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        generate(tmp_path / "file" / "set", model, plan, ("cat",), 1, **OPTIONS)
