"""The card: its header is what the hub reads, and it says what the manifest says."""

import json
import re

import numpy as np
import pytest
import yaml

from jaxcil.errors import InputError
from jaxcil.synthesis.dataset import filters, numbering, store
from jaxcil.synthesis.dataset.card import card, write_card
from jaxcil.synthesis.dataset.filters import Filter, Rule
from jaxcil.synthesis.dataset.manifest import Manifest, begin
from jaxcil.synthesis.dataset.numbering import Requests

CONFIG = {
    "model": {"sha256": "ab" * 32},
    "plan": {"keep": [0.5] * 7},
    "templates": ["a {photo|picture} of a {}", "{}"],
    "guidance_scale": [1.5, 3.0],
    "negative_prompt": "blurry | cropped",
    "seed": 3,
    "image_size": [4, 6],
}
NOTES = {
    "model": "owner/model",
    "revision": "0123abc",
    "solver": "er_sde",
    "order": 3,
    "derivative": "corrected",
    "licence": "cc-by-4.0",
}


WORTH = {
    "config": {"dataset": "digits"},
    "all": {
        "images": {"synthetic": 4},
        "accuracy": {
            "recognised": {"value": 0.875, "standard_error": 0.012},
            "real_test_trained_on_real": {"value": 1.0, "standard_error": 0.0},
            "real_test_trained_on_synthetic": {"value": 0.75, "standard_error": 0.02},
        },
    },
}


def manifest(names=("cat", "sea_lion"), counts=2, notes=NOTES, phrases=None, **changes):
    asked = numbering.extended(Requests(), len(names), counts, 1000)
    return Manifest(CONFIG | changes, tuple(names), asked, notes, {}, phrases or {})


def header(text):
    _, front, _ = text.split("---\n", 2)
    return yaml.safe_load(front)


def rows(text):
    """The cells of all lines of tables."""
    return [re.split(r" (?<!\\)\| ", line.strip("| ")) for line in text.splitlines() if line.startswith("|")]


@pytest.mark.parametrize(
    ("count", "size"),
    [(499, "n<1K"), (500, "1K<n<10K"), (5000, "10K<n<100K"), (500_000, "1M<n<10M"), (10**7, "10M<n<100M")],
)
def test_the_header_is_yaml_with_the_fields_of_the_hub(count, size):
    front = header(card(manifest(counts=count)))
    assert front["license"] == "cc-by-4.0"
    assert front["task_categories"] == ["image-classification"]
    assert front["size_categories"] == [size]
    assert {"synthetic", "jaxcil"} <= set(front["tags"])
    assert front["pretty_name"] == f"{2 * count} synthetic images of 2 classes"


def test_words_that_are_no_identifier_of_a_licence_are_quoted_as_another_one():
    front = header(card(manifest(notes={"licence": 'Mine: "all" of it'})))
    assert (front["license"], front["license_name"]) == ("other", 'Mine: "all" of it')


def test_without_a_licence_the_card_says_whose_it_follows():
    text = card(manifest(notes={}))
    assert header(text)["license_name"] == "that-of-the-model"
    assert "Follows from that of the model that drew them." in text


def test_the_card_says_how_the_images_were_made():
    said = dict(row for row in rows(card(manifest())) if len(row) == 2)
    assert said["model"] == f"`owner/model`, revision `0123abc`, SHA-256 `{'ab' * 32}`"
    assert said["solver"] == "ER-SDE of order 3, corrected derivatives, 7 calls of the network an image"
    assert said["guidance scale"] == "1.5, 3 in turn"
    assert said["negative prompt"] == r"`blurry \| cropped`"
    assert said["templates of the prompts, in turn"] == r"`a {photo\|picture} of a {}`, `{}`"
    assert said["seed"] == "3"


def test_a_plan_from_a_file_is_named_as_calibrated():
    made_by = {"solver": "er_sde", "order": 2, "derivative": "published", "parameters": [1.0]}
    said = dict(
        row for row in rows(card(manifest(notes={"plan": "p.json", "made_by": made_by}))) if len(row) == 2
    )
    assert said["solver"].startswith(
        "ER-SDE of order 2, published derivatives, its noise calibrated to the model"
    )


def test_a_hundred_classes_stand_in_a_table_and_more_in_a_list():
    names = [f"class_{n}" for n in range(101)]
    text = card(manifest(names[:100], counts=[n + 1 for n in range(100)]))
    assert [row for row in rows(text) if row[0] == "41"] == [["41", "class_41", "42"]]
    text = card(manifest(names, counts=[n + 1 for n in range(101)]))
    assert "class_41 (42), class_42 (43)" in text
    assert not [row for row in rows(text) if row[0] == "41"]


def test_what_a_class_is_called_stands_beside_it_and_breaks_no_table():
    text = card(manifest(("n1", "a|b"), phrases={"n1": ("tench, a <fish>", "Tinca")}))
    assert ["0", "n1", r"tench, a \<fish\>; Tinca", "2"] in rows(text)
    assert ["1", r"a\|b", "", "2"] in rows(text)


def test_filters_bring_their_shares_a_class():
    of = manifest(counts=4)
    kept = np.array([True, True, True, False, True, False, False, False])
    found = Filter(
        Rule("top", "margin", 0.5), {"sha256": "cd" * 32}, of.content_hash, kept, kept * 1.0, kept * 0
    )
    text = card(of, {"best": found})
    assert ["label", "class", "images", "kept by best"] in rows(text)
    assert ["0", "cat", "4", "75.0%"] in rows(text)
    assert ["1", "sea_lion", "4", "25.0%"] in rows(text)
    assert ["`best`", "top 0.5 of each class", "margin", "4 of 8 (50.0%)", f"`{'cd' * 8}`"] in rows(text)
    assert 'filters.read("THIS_DIRECTORY", "best")' in text


def test_the_limits_say_whether_the_worth_was_measured():
    assert "was not measured here" in card(manifest())
    text = card(manifest(), worth=WORTH)
    assert "was not measured here" not in text
    assert "Of 4 images, beside real ones of digits" in text
    assert ["these images, of a classifier that was trained on real ones", "87.5% ± 1.2%"] in rows(text)
    assert ["real test images, of a classifier that was trained on these", "75.0% ± 2.0%"] in rows(text)
    with pytest.raises(InputError, match=r"worth.json is not of .* Take it away"):
        card(manifest(), worth={"all": {"recognised": 1}})


def test_a_written_card_reads_filters_and_worth_beside_it_but_no_stale_filter(tmp_path):
    def extend(count):
        of = begin(tmp_path, CONFIG, ("cat",), count, shard_size=2)
        for shard in store.missing_shards(tmp_path, of):
            store.write_shard(
                tmp_path, of, shard, [np.eye(4, 6, dtype=np.uint8)[..., None].repeat(3, 2)] * 2, ""
            )

    classifier = {"class_names": ["cat", "dog"], "sha256": "0" * 64}
    extend(2)
    found = filters.judge(
        tmp_path, Rule("recognised", "margin"), lambda images: np.eye(2)[[0] * len(images)], classifier
    )
    filters.write_filter(tmp_path, "good", found)
    (tmp_path / "worth.json").write_text(json.dumps(WORTH))
    write_card(tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert "kept by good" in text
    assert "87.5% ± 1.2%" in text
    extend(4)
    write_card(tmp_path)
    assert "kept by good" not in (tmp_path / "README.md").read_text()
