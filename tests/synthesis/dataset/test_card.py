"""The card: its header is what the hub reads, and it says what the manifest says."""

import json
import re

import numpy as np
import pytest
import yaml

from jaxcil.errors import InputError
from jaxcil.synthesis.dataset import filters, numbering, store
from jaxcil.synthesis.dataset.card import card, code, model_licence, text, write_card
from jaxcil.synthesis.dataset.filters import Filter, Rule
from jaxcil.synthesis.dataset.manifest import Asked, Manifest, begin
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


def header(page):
    _, front, _ = page.split("---\n", 2)
    return yaml.safe_load(front)


def rows(page):
    """The cells of all lines of tables."""
    lines = [line for line in page.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


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
    page = card(manifest(notes={}))
    assert header(page)["license_name"] == "that-of-the-model"
    assert "Follows from that of the model that drew them." in page


def test_the_card_says_how_the_images_were_made():
    said = dict(row for row in rows(card(manifest())) if len(row) == 2)
    assert said["model"] == f"`owner/model`, revision `0123abc`, SHA-256 `{'ab' * 32}`"
    assert said["solver"] == "ER-SDE of order 3, corrected derivatives, 7 calls of the network per image"
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
    page = card(manifest(names[:100], counts=[n + 1 for n in range(100)]))
    assert [row for row in rows(page) if row[0] == "41"] == [["41", "class_41", "42"]]
    page = card(manifest(names, counts=[n + 1 for n in range(101)]))
    assert "class_41 (42), class_42 (43)" in page
    assert not [row for row in rows(page) if row[0] == "41"]


def test_what_a_class_is_called_stands_beside_it_and_breaks_no_table():
    page = card(manifest(("n1", "a|b"), phrases={"n1": ("tench, a <fish>", "Tinca")}))
    assert ["0", "n1", r"tench, a \<fish\>; Tinca", "2"] in rows(page)
    assert ["1", r"a\|b", "", "2"] in rows(page)


def test_filters_bring_the_fractions_kept_per_class():
    of = manifest(counts=4)
    kept = np.array([True, True, True, False, True, False, False, False])
    found = Filter(
        Rule("top", "margin", 0.5), {"sha256": "cd" * 32}, of.content_hash, kept, kept * 1.0, kept * 0
    )
    page = card(of, {"best": found})
    assert ["label", "class", "images", "kept by best"] in rows(page)
    assert ["0", "cat", "4", "75.0%"] in rows(page)
    assert ["1", "sea_lion", "4", "25.0%"] in rows(page)
    assert ["`best`", "top 0.5 of each class", "margin", "4 of 8 (50.0%)", f"`{'cd' * 8}`"] in rows(page)
    assert 'filters.read("THIS_DIRECTORY", "best")' in page


def test_the_limits_say_whether_the_worth_was_measured():
    assert "was not measured here" in card(manifest())
    page = card(manifest(), worth=WORTH)
    assert "was not measured here" not in page
    assert "Of 4 images, compared with real ones of digits" in page
    assert ["these images, by a classifier trained on real ones", "87.5% ± 1.2%"] in rows(page)
    assert ["real test images, by a classifier trained on these", "75.0% ± 2.0%"] in rows(page)
    with pytest.raises(InputError, match=r"worth.json was not written by .* Remove it"):
        card(manifest(), worth={"all": {"recognised": 1}})


def test_a_written_card_reads_filters_and_worth_beside_it_but_no_stale_filter(tmp_path):
    def extend(count):
        of = begin(tmp_path, Asked(CONFIG | {"shard_size": 2}, ("cat",), count))
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
    page = (tmp_path / "README.md").read_text()
    assert "kept by good" in page
    assert "87.5% ± 1.2%" in page
    extend(4)
    write_card(tmp_path)
    assert "kept by good" not in (tmp_path / "README.md").read_text()


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("---\nlicense: creativeml-openrail-m\ntags:\n- a\n---\n# A model\n", "creativeml-openrail-m"),
        ("---\ntags:\n- a\n---\n", None),
        ("# A model without a header\n", None),
        ("---\nlicense: [a, b\n---\n", None),
        ("---\nlicense:\n- mit\n- other\n---\n", None),
        ("---\n- a\n---\n", None),
    ],
    ids=["said", "not-said", "no-header", "no-yaml", "several", "list"],
)
def test_a_models_card_gives_its_licence_or_none(text, licence, tmp_path):
    (tmp_path / "README.md").write_text(text)
    assert model_licence(tmp_path) == licence


@pytest.mark.parametrize("model", ["digits", "owner/model"])
def test_a_model_that_is_no_folder_here_has_none(model):
    assert model_licence(model) is None


@pytest.mark.parametrize(
    ("licence", "fields"),
    [
        ("apache-2.0", {"license": "apache-2.0"}),
        ("CC BY 4.0", {"license": "other", "license_name": "CC BY 4.0"}),
        (None, {"license": "other", "license_name": "that-of-the-model"}),
    ],
)
def test_only_identifiers_are_in_the_field_of_the_hub(licence, fields):
    front = header(card(manifest(notes={} if licence is None else {"licence": licence})))
    assert {name: front[name] for name in front if name.startswith("license")} == fields


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("sea_lion", "sea_lion"),
        ("_a_ *b* ~c~", r"\_a\_ \*b\* \~c\~"),
        ("<img src=x>", r"\<img src=x\>"),
        ("&lt; [x](y)", r"\&lt; \[x\](y)"),
        ("# 1", r"\# 1"),
        ("1. a\nb", r"1\. a b"),
        ("- a | b", r"\- a \| b"),
    ],
)
def test_words_are_no_markup(words, expected):
    assert text(words) == expected


@pytest.mark.parametrize(
    ("words", "expected"),
    [("a.zip", "`a.zip`"), ("a`b", "``a`b``"), ("``a`", "``` ``a` ```"), ("a\nb|", "`a b|`")],
)
def test_a_code_span_holds_any_words(words, expected):
    assert code(words) == expected


def test_paths_of_imported_sources_are_no_markup():
    sources = {"<b>`x`_.zip": "0" * 64}
    pixels = {"resize": None, "behind_alpha": "white"}
    page = card(
        Manifest({"sources": sources, "pixels": pixels, "image_size": [4, 6]}, ("cat",), *manifest()[2:])
    )
    assert f"- ``<b>`x`_.zip`` {'0' * 64}\n" in page
    assert "kept at their own size;\nwhat was transparent is white." in page
