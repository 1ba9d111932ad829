"""Sets that earlier versions wrote are read, resumed and extended as if they were written today."""

import json

import jax
import numpy as np
import pytest

from jaxcil.errors import InputError
from jaxcil.synthesis.dataset import card, filters, store
from jaxcil.synthesis.dataset.filters import Rule
from jaxcil.synthesis.dataset.manifest import Asked, begin, join, read_manifest
from jaxcil.synthesis.dataset.verify import verify
from jaxcil.synthesis.drawing import generate

CONFIG = {
    "model": {"sha256": "0" * 64},
    "plan": {"keep": [0.5, 0.25]},
    "templates": ["a {}"],
    "guidance_scale": 2.0,
    "seed": 3,
    "image_size": [4, 6],
    "batch_size": 4,
    "shard_size": 5,
}
NOTES = {"model": "digits", "solver": "er_sde", "order": 3, "nfe": 2}
# As version 0.1.0 wrote it, before the fields were renamed.
OLD = """{
  "schema": 1,
  "class_names": ["cat", "dog"],
  "images_a_class": 4,
  "config_hash": "532161aeafd59fbf48fdef5bca3279c192c14bd1af3b9a055717cb0706984b76",
  "config": {
    "model": {"sha256": "0000000000000000000000000000000000000000000000000000000000000000"},
    "plan": {"keep": [0.5, 0.25]},
    "templates": ["a {}"],
    "guidance_scale": 2.0,
    "seed": 3,
    "image_size": [4, 6],
    "batch_size": 4,
    "shard_size": 5
  },
  "notes": {"model": "digits", "solver": "er_sde", "order": 3, "calls": 2},
  "requests": {"blocks": [[0, 0, 4], [1, 0, 4]], "shards": [[0, 5], [5, 8]]},
  "versions": {"jaxcil": "0.1.0"}
}
"""


def tokenize(texts):
    return np.array([[len(text), ord(text[-1])] for text in texts], np.int32)


def draw(ids, keys, scales):
    return jax.vmap(lambda key: jax.random.uniform(key, (4, 6, 3), minval=-1))(keys)


def fill(directory):
    manifest = read_manifest(directory)
    generate.fill(directory, manifest, draw, tokenize, batch=4)
    store.finish(directory, manifest)
    card.write_card(directory)


@pytest.fixture
def old(tmp_path):
    """A set with an old manifest and shards."""
    directory = tmp_path / "old"
    directory.mkdir()
    (directory / "manifest.json").write_text(OLD)
    fill(directory)
    return directory


@pytest.fixture
def new(tmp_path):
    """The same set, made today."""
    directory = tmp_path / "new"
    directory.mkdir()
    begin(directory, Asked(CONFIG, ("cat", "dog"), 4), NOTES)
    fill(directory)
    return directory


def shards(directory):
    return {path.name: path.read_bytes() for path in sorted(directory.glob("*.array_record-*[0-9]"))}


def test_an_old_set_is_what_is_made_today_to_the_byte(old, new):
    assert read_manifest(old)._replace(versions={}) == read_manifest(new)._replace(versions={})
    assert read_manifest(old).notes == NOTES
    assert shards(old) == shards(new)
    assert (old / "README.md").read_bytes() == (new / "README.md").read_bytes()
    assert verify(old) == []
    np.testing.assert_array_equal(store.read(old).images, store.read(new).images)


def test_an_old_set_is_resumed_as_it_is_and_others_join_it(old):
    asked = Asked(CONFIG, ("cat", "dog"), 4)
    assert begin(old, asked, NOTES) == join(old, asked)
    assert (old / "manifest.json").read_text() == OLD
    with pytest.raises(InputError, match=r"images_per_class \(may only grow\): there 4, now 3"):
        begin(old, asked._replace(images_per_class=3))


def test_an_old_set_is_extended_under_the_new_names(old, new):
    for directory in (old, new):
        begin(directory, Asked(CONFIG, ("cat", "dog", "eel"), 6), NOTES)
        fill(directory)
    assert shards(old) == shards(new)
    assert verify(old) == []
    manifest = json.loads((old / "manifest.json").read_text())
    assert manifest["images_per_class"] == 6
    assert manifest["notes"] == NOTES
    assert not {"images_a_class", "calls"} & {*manifest, *manifest["notes"]}


def test_a_filter_with_an_old_rule_is_read(new):
    scores = lambda images: images.mean((1, 2))[:, :2]  # noqa: E731
    classifier = {"class_names": ["cat", "dog"], "sha256": "0" * 64}
    result = filters.judge(new, Rule("top", "margin", 0.5), scores, classifier)
    path = filters.write_filter(new, "best", result)
    assert '"fraction": 0.5' in path.read_text()
    path.write_text(path.read_text().replace('"fraction": 0.5', '"share": 0.5'))
    assert filters.read_filter(new, "best").rule == result.rule
