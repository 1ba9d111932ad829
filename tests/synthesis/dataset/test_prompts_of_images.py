"""Prompt and guidance scale of each image, from a manifest alone."""

import collections

import numpy as np
import pytest

from jaxcil.errors import InputError
from jaxcil.synthesis.dataset import prompts, store
from jaxcil.synthesis.dataset.manifest import Asked, begin, read_manifest
from jaxcil.synthesis.drawing import generate
from jaxcil.workdir import files

CONFIG = {
    "plan": {"keep": [0.5]},
    "templates": ["a {}", "the {photo|picture} of {}"],
    "guidance_scale": [1.0, 2.0, 4.0, 8.0],
    "seed": 3,
    "image_size": [2, 2],
    "batch_size": 4,
    "shard_size": 5,
}
PHRASES = {"n1": ("crane, a bird", "whooping crane, a bird")}


def tokenize(texts):
    return np.array([[sum(text.encode()) % 200] for text in texts], np.int32)


def draw(ids, keys, scales):
    """Pixels that encode the prompt and the scale of an image."""
    assert scales.dtype == np.float32
    values = np.stack([ids[:, 0] / 127.5 - 1, scales / 127.5 - 1, 0 * scales], -1)
    return np.broadcast_to(values[:, None, None], (len(ids), 2, 2, 3)).astype(np.float32)


def make(directory, class_names, images_per_class, phrases=PHRASES, **changes):
    config = CONFIG | changes
    manifest = begin(directory, Asked(config, class_names, images_per_class, phrases))
    generate.fill(directory, manifest, draw, tokenize, batch=4)
    store.finish(directory, manifest)
    return manifest


def by_request(directory):
    """What each image (class, index) was drawn from, as its pixels show."""
    manifest, (images, labels, names) = read_manifest(directory), store.read(directory)
    seen = collections.Counter()
    told = {}
    for image, label in zip(images, labels.tolist()):
        told[names[label], seen[label]] = tuple(image[0, 0, :2].tolist())
        seen[label] += 1
    return manifest, told


def test_images_are_drawn_from_the_prompt_and_the_scale_of_their_request(tmp_path):
    make(tmp_path, ("dog", "n1"), 9)
    manifest, told = by_request(tmp_path)
    for (name, index), (token, scale) in told.items():
        label = manifest.class_names.index(name)
        assert token == tokenize([prompts.prompt_of(manifest, label, index)])[0, 0]
        assert scale == prompts.scale_of(manifest, label, index)
    assert prompts.prompt_of(manifest, 1, 0) == "a crane, a bird"


def test_a_class_has_each_prompt_at_each_scale_equally_often(tmp_path):
    manifest = make(tmp_path, ("n1",), 1, templates=["a {}", "the {}"])
    pairs = collections.Counter(
        (prompts.prompt_of(manifest, 0, index), prompts.scale_of(manifest, 0, index)) for index in range(32)
    )
    assert len(pairs) == 2 * 2 * 4
    assert set(pairs.values()) == {2}


def test_an_extended_set_has_the_images_of_one_made_at_once(tmp_path):
    make(tmp_path / "grown", ("dog",), 3, phrases={})
    before = {path.name: path.read_bytes() for path in (tmp_path / "grown").glob("*record-0000?")}
    make(tmp_path / "grown", ("dog", "n1"), 8)
    make(tmp_path / "once", ("dog", "n1"), 8)
    assert by_request(tmp_path / "grown")[1] == by_request(tmp_path / "once")[1]
    assert (
        before.items()
        <= {p.name: p.read_bytes() for p in (tmp_path / "grown").iterdir() if p.is_file()}.items()
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"phrases": {"n1": ("heron",)}}, r"phrases.n1: there .'crane, a bird'.*, now .'heron',."),
        ({"phrases": {}}, "phrases.n1: there .* now None"),
        ({"guidance_scale": [1.5, 2.0]}, "guidance_scale: there .1.0, 2.0, 4.0, 8.0., now .1.5, 2.0."),
        ({"guidance_scale": 1.5}, "guidance_scale: there .* now 1.5"),
        ({"negative_prompt": "blurry"}, "negative_prompt: there None, now blurry"),
    ],
    ids=["phrases", "no-phrases", "scales", "scale", "negative"],
)
def test_other_prompts_or_scales_are_another_set(changes, message, tmp_path):
    make(tmp_path, ("n1",), 2)
    with pytest.raises(InputError, match=message):
        make(tmp_path, ("n1",), 2, **changes)


def test_a_set_without_phrases_has_the_manifest_and_the_shards_of_ever(tmp_path):
    manifest = make(tmp_path, ("cat",), 2, phrases={}, guidance_scale=2.0, templates=["a {}"])
    assert "phrases" not in files.read_json(tmp_path / "manifest.json")
    assert prompts.scale_of(manifest, 0, 1) == 2.0
    # made before there were phrases, with this very config
    sidecar = files.read_json(tmp_path / "synthetic-train.array_record-00000.json")
    assert (manifest.config_hash, sidecar["made_for"]) == (CONFIG_HASH, MADE_FOR)


CONFIG_HASH = "e88437e3ca51e544d0c2c68f6d3a7ed2f5afcff7a3a2fcf621952d97f416712f"
MADE_FOR = "4349ef39a91cbeb0281bd4349221856225d81c3fe118b24e47f3d68d22b4db77"


@pytest.mark.parametrize(
    ("given", "kept"), [(2, 2.0), ((2,), 2.0), ([1.5, 3], [1.5, 3.0]), (np.float32(2), 2.0)]
)
def test_one_scale_is_kept_as_a_number(given, kept):
    assert prompts.checked_scales(given) == kept


@pytest.mark.parametrize("given", [(), float("nan"), (2.0, float("inf")), "2", ("nan",), None])
def test_scales_that_are_no_finite_numbers_are_refused(given):
    with pytest.raises(InputError, match="guidance_scale must be finite"):
        prompts.checked_scales(given)
