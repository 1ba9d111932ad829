"""The text gives the figures of worth.json."""

import pytest

from jaxcil.evaluation.worth.tables import worth_text


def estimate(value, error=0.01):
    return {"value": value, "standard_error": error}


def three(synthetic, real_test, real_train, error=0.01):
    return {
        "synthetic": estimate(synthetic, error),
        "real_test": estimate(real_test),
        "real_train": estimate(real_train),
    }


def row(recognised, *, frechet=True):
    distances = {"images": 500, "omitted": {}}
    if frechet:
        distances["frechet"] = three(12.345, 0.9, 0.25, error=0.31)
    else:
        distances["omitted"]["frechet"] = "a covariance of 64 features needs more than 64 images"
    distances |= {"kernel": three(0.3312, 0.00154, -0.0166, error=0.13)}
    distances |= {"precision": three(0.91, 0.8, 0.85), "recall": three(0.4, 0.82, 0.84)}
    of_seen = {"exact": 3, "near": 0.004, "percentiles": [float(n) for n in range(21)]}
    return {
        "images": {"synthetic": 1500, "real_train": 1000, "real_test": 800, "seen": 1000},
        "accuracy": {
            "recognised": estimate(recognised),
            "real_test_trained_on_real": estimate(0.7),
            "real_test_trained_on_synthetic": estimate(0.34, 0.007),
        },
        "distances": distances,
        "copies": {
            "within": {
                "synthetic": {"exact": 7, "near": 0.25, "close": 0.5},
                "real_train": {"exact": 0, "near": 0.001},
            },
            "of_seen": {"synthetic": of_seen | {"close": 0.02}, "real_test": of_seen},
            "closest": [{"synthetic": 3, "seen": 4, "distance": 0.0}],
        },
    }


@pytest.fixture
def results():
    return {
        "config": {"duplicate_threshold": 8.0},
        "all": row(0.66),
        "classes": {"cat": row(0.3, frechet=False), "automobile": row(0.9, frechet=False)},
    }


def table(text, title):
    [block] = [block for block in text.split("\n\n") if block.startswith(title)]
    return [line.split("  ") for line in block.splitlines()[1:]]


def cells(text, title, name):
    [found] = [
        [cell.strip() for cell in line if cell] for line in table(text, title) if line[0].strip() == name
    ]
    return found


def test_every_class_has_a_line_in_every_table(results):
    text = worth_text(results)
    for title in ("Accuracy", "Distance", "Precision", "Copies"):
        assert [line[0].strip() for line in table(text, title)][2:] == ["all", "cat", "automobile"]


def test_figures_are_under_their_names(results):
    text = worth_text(results)
    assert cells(text, "Accuracy", "cat") == ["cat", "1500", "30.0 ± 1.0", "70.0 ± 1.0", "34.0 ± 0.7"]
    assert cells(text, "Distance", "all") == [
        "all",
        "500",
        "12.3 ± 0.31",
        "0.9",
        "0.25",
        "331 ± 130",
        "1.54",
        "-16.6",
    ]
    assert cells(text, "Distance", "cat")[2:5] == ["-", "-", "-"]
    assert cells(text, "Precision", "all")[1:5] == ["91.0 ± 1.0", "80.0 ± 1.0", "85.0 ± 1.0", "40.0 ± 1.0"]
    assert cells(text, "Copies", "all") == [
        "all",
        "7",
        "25.0 %",
        "50.0 %",
        "3",
        "0.4 %",
        "2.0 %",
        "10.0",
        "10.0",
    ]


def test_what_is_omitted_is_reported_once_with_its_reason(results):
    assert worth_text(results).count("a covariance of 64 features needs more than 64 images") == 1
    whole = results | {"classes": {}}
    assert "omitted" not in worth_text(whole)


def test_the_last_words_are_those_over_all_classes(results):
    last = worth_text(results).split("\n\n")[-1]
    assert "trained on 1500 synthetic images is right on 34.0 ± 0.7 % of 800 real test images" in last
    assert "trained on 1000 real images on 70.0 ± 1.0 %" in last
    assert "Fréchet distance to real training images is 12.3; that of real test images is 0.9" in last
    assert "7 repeat another exactly and 3 an image seen" in last


def test_with_too_few_images_of_all_classes_the_kernel_distance_speaks(results):
    few = results | {"all": row(0.66, frechet=False)}
    assert "kernel distance to real training images is 0.331" in worth_text(few)
