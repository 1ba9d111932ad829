"""What a synthetic image set is worth, as tables and sentences for a terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jaxcil import tables

MISSING = "-"


def worth_text(results: Mapping[str, Any]) -> str:
    """Four tables, each with a row for all classes and one per class, and a summary in sentences.

    Args:
      results: what worth.json holds.
    """
    rows = {"all": results["all"], **results["classes"]}
    near = f"{results['config']['duplicate_threshold']:g}"
    parts = (
        ("Accuracy (%): recognised by a classifier of real images; of real test images", _accuracies(rows)),
        ("Distance to real training images, of equally many images", _distances(rows)),
        ("Precision and recall (%)", _precisions(rows)),
        (
            f"Copies: exact, near (at most {near} grey levels) and close in features (1 % by chance, of fewer than 100 "
            "real test images one)",
            _copies(rows),
        ),
    )
    blocks = [f"{title}\n{tables.plain(next(lines), lines)}" for title, lines in parts]
    omitted = {reason for row in rows.values() for reason in row["distances"]["omitted"].values()}
    blocks += [f"Some Fréchet distances are omitted: {reason}." for reason in omitted]
    return "\n\n".join([*blocks, "\n".join(_sentences(results["all"]))])


def _accuracies(rows: Mapping[str, Any]) -> Iterator[list[str]]:
    yield ["class", "images", "recognised", "trained on real", "trained on synthetic"]
    for name, row in rows.items():
        accuracies = (_percent(accuracy) for accuracy in row["accuracy"].values())
        yield [name, str(row["images"]["synthetic"]), *accuracies]


def _distances(rows: Mapping[str, Any]) -> Iterator[list[str]]:
    yield ["class", "images", "Fréchet", "real test", "halves", "kernel x 1000", "real test", "halves"]
    for name, row in rows.items():
        distances = row["distances"]
        cells = [
            _distance(distances.get(measure), scale) for measure, scale in (("frechet", 1), ("kernel", 1000))
        ]
        yield [name, str(distances["images"]), *cells[0], *cells[1]]


def _precisions(rows: Mapping[str, Any]) -> Iterator[list[str]]:
    yield ["class", "precision", "real test", "halves", "recall", "real test", "halves"]
    for name, row in rows.items():
        pair = [row["distances"][measure] for measure in ("precision", "recall")]
        yield [
            name,
            *(_percent(of[sets]) for of in pair for sets in ("synthetic", "real_test", "real_train")),
        ]


def _copies(rows: Mapping[str, Any]) -> Iterator[list[str]]:
    kinds = ["near", "close"]
    yield ["class", "within: exact", *kinds, "of seen: exact", *kinds, "median", "real test"]
    for name, row in rows.items():
        copies = row["copies"]
        counts = [
            cell
            for figures in (copies[where]["synthetic"] for where in ("within", "of_seen"))
            for cell in (str(figures["exact"]), *(f"{100 * figures[kind]:.1f} %" for kind in kinds))
        ]
        medians = [_median(copies["of_seen"][sets]) for sets in ("synthetic", "real_test")]
        yield [name, *counts, *(f"{median:.1f}" for median in medians)]


def _sentences(row: Mapping[str, Any]) -> Iterator[str]:
    images, accuracy, copies = row["images"], row["accuracy"], row["copies"]
    yield (
        f"A classifier trained on {images['synthetic']} synthetic images is right on "
        f"{_percent(accuracy['real_test_trained_on_synthetic'])} % of {images['real_test']} real test images; "
        f"one trained on {images['real_train']} real images on {_percent(accuracy['real_test_trained_on_real'])} %."
    )
    measure = "frechet" if "frechet" in row["distances"] else "kernel"
    synthetic, real_test, halves = (
        row["distances"][measure][sets]["value"] for sets in ("synthetic", "real_test", "real_train")
    )
    yield (
        f"Their {'Fréchet' if measure == 'frechet' else 'kernel'} distance to real training images is "
        f"{_number(synthetic)}; that of real test images is {_number(real_test)}, of other training images "
        f"{_number(halves)}."
    )
    within, of_seen = (copies[where]["synthetic"] for where in ("within", "of_seen"))
    yield (
        f"{within['exact']} repeat another exactly and {of_seen['exact']} an image seen; {100 * within['near']:.1f} % "
        f"have a near-duplicate in the set, {100 * of_seen['near']:.1f} % among the images seen (real training images "
        f"among themselves: {100 * copies['within']['real_train']['near']:.1f} %)."
    )


def _percent(fraction: Mapping[str, float]) -> str:
    return f"{100 * fraction['value']:.1f} ± {100 * fraction['standard_error']:.1f}"


def _distance(measure: Mapping[str, Any] | None, scale: float) -> list[str]:
    """Cells of the synthetic set, with its standard error, and of the two baselines."""
    if measure is None:
        return [MISSING] * 3
    value, error = (scale * number for number in measure["synthetic"].values())
    baselines = (measure[sets]["value"] for sets in ("real_test", "real_train"))
    return [f"{_number(value)} ± {_number(error, 2)}", *(_number(scale * baseline) for baseline in baselines)]


def _number(value: float, digits: int = 3) -> str:
    """A number of significant digits, without an exponent."""
    return np.format_float_positional(value, digits, unique=False, fractional=False, trim="-")


def _median(figures: Mapping[str, Any]) -> float:
    percentiles = figures["percentiles"]
    return percentiles[len(percentiles) // 2]
