"""What a synthetic image set is worth, as tables and sentences for a terminal."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

MISSING = "-"


def worth_text(results: Mapping[str, Any]) -> str:
    """Four tables, a row over all classes and one for each, and what they say.

    Args:
      results: what worth.json holds.
    """
    rows = {"all": results["all"], **results["classes"]}
    near = f"{results['config']['near']:g}"
    tables = (
        ("Accuracy (%): recognised by a classifier of real images; of real test images", _accuracies(rows)),
        ("Distance to real training images, of equally many images", _distances(rows)),
        ("Precision and recall (%)", _precisions(rows)),
        (
            f"Copies: exact, near (at most {near} grey levels) and close in features (1 % by chance, of fewer than 100 "
            "real test images one)",
            _copies(rows),
        ),
    )
    blocks = [f"{title}\n{_table(list(lines))}" for title, lines in tables]
    omitted = {reason for row in rows.values() for reason in row["distances"]["omitted"].values()}
    blocks += [f"Some Fréchet distances are left out: {reason}." for reason in omitted]
    return "\n\n".join([*blocks, "\n".join(_sentences(results["all"]))])


def _accuracies(rows: Mapping[str, Any]) -> Iterator[list[str]]:
    yield ["class", "images", "recognised", "trained on real", "trained on synthetic"]
    for name, row in rows.items():
        yield [
            name,
            str(row["images"]["synthetic"]),
            *(_percent(share) for share in row["accuracy"].values()),
        ]


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
        shares = [row["distances"][measure] for measure in ("precision", "recall")]
        yield [
            name,
            *(_percent(of[sets]) for of in shares for sets in ("synthetic", "real_test", "real_train")),
        ]


def _copies(rows: Mapping[str, Any]) -> Iterator[list[str]]:
    yield [
        "class",
        "within: exact",
        "near",
        "close",
        "of seen: exact",
        "near",
        "close",
        "median",
        "real test",
    ]
    for name, row in rows.items():
        copies = row["copies"]
        within, of_seen = (copies[where]["synthetic"] for where in ("within", "of_seen"))
        counts = [
            cell
            for found in (within, of_seen)
            for cell in (str(found["exact"]), f"{100 * found['near']:.1f} %", f"{100 * found['close']:.1f} %")
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


def _percent(share: Mapping[str, float]) -> str:
    return f"{100 * share['value']:.1f} ± {100 * share['standard_error']:.1f}"


def _distance(measure: Mapping[str, Any] | None, scale: float) -> list[str]:
    """Cells of the synthetic set, with its standard error, and of the two baselines."""
    if measure is None:
        return [MISSING] * 3
    value, error = (scale * number for number in measure["synthetic"].values())
    baselines = (measure[sets]["value"] for sets in ("real_test", "real_train"))
    return [f"{_number(value)} ± {_number(error, 2)}", *(_number(scale * baseline) for baseline in baselines)]


def _number(value: float, digits: int = 3) -> str:
    """So many digits, and no powers of ten."""
    return np.format_float_positional(value, digits, unique=False, fractional=False, trim="-")


def _median(found: Mapping[str, Any]) -> float:
    percentiles = found["percentiles"]
    return percentiles[len(percentiles) // 2]


def _table(lines: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines)]
    padded = [
        [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:]))]
        for row in [lines[0], ["-" * width for width in widths], *lines[1:]]
    ]
    return "\n".join("  ".join(row) for row in padded)
