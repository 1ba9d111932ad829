"""Damage of every kind is found, named and repaired; the network is a function of a few lines."""

import json
import pathlib
import shutil

import jax
import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter

from jaxcil.data.encoding import Encoding, png
from jaxcil.errors import InputError
from jaxcil.parallel import mesh
from jaxcil.synthesis.dataset import card, store
from jaxcil.synthesis.dataset.manifest import Asked, begin, digest, read_manifest
from jaxcil.synthesis.dataset.verify import Finding, verify
from jaxcil.synthesis.drawing import generate, repair
from jaxcil.synthesis.drawing.repair import repair as mend
from jaxcil.workdir import files

PLAN = {
    "time": [1.0, 0.0],
    "alpha": [1.0, 1.0],
    "sigma": [1.0, 0.0],
    "keep": [0.5],
    "history": [[0.5]],
    "noise": [0.0],
}
CONFIG = {
    "model": {"sha256": "the model"},
    "plan": PLAN,
    "templates": ["a {}", "the {}"],
    "guidance_scale": 2.0,
    "seed": 3,
    "image_size": [4, 6],
    "batch_size": 4,
    "shard_size": 5,
}
SHARD = "synthetic-train.array_record-00001"  # requests 5 .. 9: cat/5, dog/0 .. dog/3


class Model:
    """Stands for a pipeline: its images are noise, of the prompt and the key alone."""

    def __init__(self, sha256="the model", gain=1.0):
        self.sha256, self.gain, self.calls = sha256, gain, 0

    def tokenize(self, texts):
        return np.array([[len(text), ord(text[-1])] for text in texts], np.int32)

    def draw(self, ids, keys, scales):
        self.calls += 1
        noise = jax.vmap(lambda key: jax.random.uniform(key, (4, 6, 3), minval=-1))(keys)
        return np.asarray(noise) * (ids[:, 0] / 20 * self.gain)[:, None, None, None]


@pytest.fixture(autouse=True)
def models(monkeypatch):
    """Models by name, which are loaded and drawn with in place of pipelines."""
    known = {"folder": Model(), "other": Model("another"), "elsewhere": Model(gain=0.9)}
    monkeypatch.setattr(repair, "load_model", lambda name, *how: known[name])
    monkeypatch.setattr(repair, "fingerprint", lambda model: model.sha256)
    monkeypatch.setattr(generate, "place", lambda model, on: model)  # no network, nothing to place
    monkeypatch.setattr(generate, "drawing", lambda model, *settings: model.draw)
    return known


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A complete set of 2 classes, 6 images each, in 3 shards; tests only copy it."""
    directory, model = tmp_path_factory.mktemp("finished"), Model()
    manifest = begin(directory, Asked(CONFIG, ("cat", "dog"), 6), {"model": "folder"})
    generate.fill(directory, manifest, model.draw, model.tokenize, batch=16)
    store.finish(directory, manifest)
    card.write_card(directory)
    return directory


@pytest.fixture
def copy(finished, tmp_path):
    return pathlib.Path(shutil.copytree(finished, tmp_path / "set"))


def changed(name, change):
    """Damage that turns the bytes of a file into others."""
    return lambda directory: (directory / name).write_bytes(change((directory / name).read_bytes()))


def removed(*names):
    return lambda directory: [(directory / name).unlink() for name in names]


def edited(name, **fields):
    """Damage to a JSON file that stays one."""
    return changed(name, lambda data: json.dumps(json.loads(data) | fields).encode())


def flipped(place):
    return lambda data: data[:place] + bytes([data[place] ^ 1]) + data[place:][1:]


def recorded(change):
    """Damage to the list of the records of the shard, whose checksum fits them: it was so when it was written."""

    def damage(directory):
        manifest, path = read_manifest(directory), directory / SHARD
        serialize, parse = store.serializer(manifest), store.parser(manifest)
        reader = ArrayRecordReader(str(path))
        records = [parse(item) for item in reader.read_all()]
        reader.close()
        writer = ArrayRecordWriter(str(path), "group_size:1")
        for record in change(records):
            writer.write(serialize(record))
        writer.close()
        edited(f"{SHARD}.json", sha256=store.sha256(path), bytes=path.stat().st_size)(directory)

    return damage


def third(**fields):
    """Damage to the record of dog/1."""
    return recorded(lambda records: [*records[:2], records[2] | fields, *records[3:]])


def pixels(*shape):
    return np.arange(np.prod(shape)).reshape(shape).astype(np.uint8)


def swapped(directory):
    for suffix in ("", ".json"):
        shutil.copy(directory / f"synthetic-train.array_record-00000{suffix}", directory / f"{SHARD}{suffix}")


# damage; file and words of the finding that must be there
DAMAGE = {
    "missing shard": (removed(SHARD), SHARD, "is missing, with 5 image(s), cat/5 to dog/3"),
    "missing sidecar": (removed(f"{SHARD}.json"), f"{SHARD}.json", "is missing"),
    "both missing": (removed(SHARD, f"{SHARD}.json"), SHARD, "is missing, with 5 image(s)"),
    "truncated shard": (changed(SHARD, lambda data: data[: len(data) // 2]), SHARD, "bytes, not"),
    "empty shard": (changed(SHARD, lambda data: b""), SHARD, "has 0 bytes, not"),
    "rubbish": (changed(SHARD, lambda data: b"rubbish" * 20000), SHARD, "has 140000 bytes, not"),
    "lengthened shard": (changed(SHARD, lambda data: data + b"\0"), SHARD, "bytes, not"),
    "flipped byte": (changed(SHARD, flipped(500)), SHARD, "was altered: its checksum"),
    "flipped byte of an image": (changed(SHARD, flipped(500)), SHARD, "lacks dog/0"),
    "flipped byte of the index": (
        changed(SHARD, flipped(65600)),
        SHARD,
        "is not a complete ArrayRecord file",
    ),
    "flipped byte of no use": (changed(SHARD, flipped(-2)), SHARD, "was altered: its checksum"),
    "sidecar not JSON": (changed(f"{SHARD}.json", lambda data: data[:50]), f"{SHARD}.json", "cannot be read"),
    "sidecar a list": (changed(f"{SHARD}.json", lambda data: b"[]"), f"{SHARD}.json", "cannot be read"),
    "other checksum": (edited(f"{SHARD}.json", sha256="0" * 64), SHARD, "was altered: its checksum"),
    "other requests": (
        edited(f"{SHARD}.json", requests=[5, 9]),
        f"{SHARD}.json",
        "requests is [5, 9], not [5, 10]",
    ),
    "another shard": (swapped, SHARD, "record 0 is of request 0, which is not in 5 .. 9"),
    "other class": (third(label=0), SHARD, "dog/1 (request 7) has label 0, not 1"),
    "other index": (third(index=4), SHARD, "dog/1 (request 7) has index 4, not 1"),
    "other id": (third(id="cat/1"), SHARD, "dog/1 (request 7) has id b'cat/1', not b'dog/1'"),
    "other request": (third(request=99), SHARD, "record 2 is of request 99, which is not in 5 .. 9"),
    "twice": (recorded(lambda records: [*records[:4], records[0]]), SHARD, "request 5, which occurs twice"),
    "record lost": (recorded(lambda records: records[1:]), SHARD, "lacks cat/5"),
    "no image": (third(image=b"rubbish"), SHARD, "dog/1 (request 7) does not decode"),
    "truncated image": (third(image=png(pixels(4, 6, 3))[:-30]), SHARD, "dog/1 (request 7) does not decode"),
    "other size": (third(image=png(pixels(6, 4, 3))), SHARD, "has 6 x 4 pixels (RGB), not 4 x 6"),
    "other format": (
        third(image=Encoding("jpeg", 95).encode(pixels(4, 6, 3))),
        SHARD,
        "dog/1 (request 7) is JPEG, not PNG",
    ),
    "grey": (third(image=png(pixels(4, 6))), SHARD, "has 4 x 6 pixels (L), not 4 x 6 (RGB)"),
    "one colour": (
        third(image=png(np.full((4, 6, 3), 7, np.uint8))),
        SHARD,
        "dog/1 (request 7) is of one colour",
    ),
    "leftover": (
        lambda directory: (directory / f".{SHARD}.aside").write_bytes(b"half"),
        f".{SHARD}.aside",
        "is left from an interrupted write",
    ),
    "lease": (
        lambda directory: (directory / f".{SHARD}.lease").write_text("process 1 on mars"),
        f".{SHARD}.lease",
        "is left from an interrupted write",
    ),
    "no description": (removed("dataset_info.json"), "dataset_info.json", "is missing"),
    "other description": (
        edited("dataset_info.json", splits=[]),
        "dataset_info.json",
        "does not match manifest",
    ),
    "no features": (removed("features.json"), "features.json", "is missing"),
}


@pytest.mark.parametrize(("damage", "file", "words"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_named_and_repair_brings_back_the_same_bytes(
    damage, file, words, finished, copy, models, contents
):
    others = [store.shard_path(copy, shard) for shard in (0, 2)]
    before = [(path.stat().st_ino, path.stat().st_mtime_ns) for path in others]
    damage(copy)
    damaged = contents(copy)
    findings = verify(copy)
    assert any(found.file == file and words in found.what for found in findings), findings
    assert {found.shard for found in findings} in ({1}, {None})
    assert contents(copy) == damaged  # looking changes nothing
    drawn = mend(copy, findings)
    assert verify(copy) == []
    assert contents(copy) == contents(finished)
    assert [(path.stat().st_ino, path.stat().st_mtime_ns) for path in others] == before  # the very files
    assert models["folder"].calls == len(drawn) == (findings[0].shard is not None)


def test_a_good_set_has_no_findings_wherever_its_records_stand(finished, copy):
    assert verify(finished) == []
    recorded(lambda records: records[::-1])(copy)
    assert verify(copy) == []


def test_all_damage_is_found_at_once(copy):
    removed("synthetic-train.array_record-00000")(copy)
    changed(SHARD, flipped(100))(copy)
    removed("synthetic-train.array_record-00002.json")(copy)
    assert {found.shard for found in verify(copy)} == {0, 1, 2}


def altered_config(directory):
    config = CONFIG | {"seed": 4}
    edited("manifest.json", config=config, config_hash=digest(config))(directory)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (edited("manifest.json", config=CONFIG | {"seed": 4}), "its config_hash is not that of its config"),
        (altered_config, "or 3 of 3 sidecars, first synthetic-train.array_record-00000.json, was altered"),
        (edited("manifest.json", class_names=["cat", "dogs"]), "or 2 of 3 sidecars"),
        (edited("manifest.json", class_names=["cat"]), "of label 1; it has 1 classes"),
        (
            edited("manifest.json", requests={"blocks": [[0, 0, 6], [1, 0, 6]], "shards": [[0, 5], [6, 12]]}),
            "gaps",
        ),
        (
            edited("manifest.json", requests={"blocks": [[0, 0, 6], [1, 0, 6]], "shards": [[0, 5]]}),
            "has 5 requests in its shards and 12",
        ),
    ],
    ids=["config", "config and hash", "class renamed", "class gone", "gap", "too few shards"],
)
def test_a_manifest_in_doubt_is_named_and_nothing_is_drawn_by_it(damage, words, copy, models, contents):
    damage(copy)
    before, findings = contents(copy), verify(copy)
    assert any(found.file == "manifest.json" and words in found.what for found in findings), findings
    with pytest.raises(InputError, match=r"cannot be repaired while its manifest.json is in doubt"):
        mend(copy, findings)
    assert contents(copy) == before
    assert models["folder"].calls == 0


def test_shards_beyond_the_manifest_are_named_and_stay(copy):
    extra = store.shard_path(copy, 3)
    shutil.copy(store.shard_path(copy, 2), extra)
    findings = verify(copy)
    assert [(found.file, found.what) for found in findings] == [(extra.name, "is not in the manifest")]
    assert mend(copy, findings) == []
    assert extra.exists()


def test_another_model_is_refused_before_anything_changes(copy, models, contents):
    changed(SHARD, flipped(100))(copy)
    before = contents(copy)
    with pytest.raises(InputError, match="SHA-256 the model, but other has another"):
        mend(copy, verify(copy), "other")
    assert contents(copy) == before
    assert models["other"].calls == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": {name: CONFIG[name] for name in CONFIG if name != "model"}}, "no model drew the images"),
        ({"notes": {}}, "does not name its model; give --model=FOLDER"),
    ],
    ids=["imported", "unnamed"],
)
def test_a_set_that_names_no_model_is_not_drawn_again(change, message, copy):
    edited("manifest.json", **change)(copy)
    with pytest.raises(InputError, match=message):
        mend(copy, [Finding(SHARD, "is missing", 1)])


def sidecar(directory):
    return store.sidecar(directory, 1)


def test_other_bytes_of_another_backend_are_noted_until_the_first_come_back(
    finished, copy, monkeypatch, contents
):
    first = sidecar(finished)
    changed(SHARD, flipped(100))(copy)
    with monkeypatch.context() as patch:
        patch.setattr(mesh, "device_kind", lambda: "abacus")
        mend(copy, verify(copy), "elsewhere")
    assert verify(copy) == []
    told = sidecar(copy)
    assert told["backend"] == "abacus"
    assert told["sha256"] == store.sha256(copy / SHARD) != first["sha256"]
    assert told["replaces"] == {name: first[name] for name in ("made_for", "sha256", "backend", "versions")}
    removed(SHARD)(copy)
    mend(copy, verify(copy))
    assert contents(copy) == contents(finished)


@pytest.mark.parametrize("name", ["folder", "elsewhere"])
def test_an_interrupted_repair_goes_on_to_the_same_files(name, copy, models, monkeypatch, tmp_path, contents):
    changed(SHARD, flipped(100))(copy)
    whole = pathlib.Path(shutil.copytree(copy, tmp_path / "whole"))
    mend(whole, verify(whole), name)

    def switched_off(ids, keys, scales):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(models[name], "draw", switched_off)
        with pytest.raises(KeyboardInterrupt):
            mend(copy, verify(copy), name)
    findings = verify(copy)
    assert any("drawing its shard again was interrupted" in found.what for found in findings)
    mend(copy, findings, name)
    assert contents(copy) == contents(whole)


def test_what_is_no_data_set_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no synthetic data set"):
        verify(tmp_path)
    files.write(tmp_path / "manifest.json", "{")
    with pytest.raises(InputError, match="cannot be read"):
        verify(tmp_path)
