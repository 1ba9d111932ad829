"""The heads written plainly in torch, or fitted by scikit-learn, in a process of their own, to compare ours with.

Two thread pools in one process compete for the cores. Each head is what a careful user of torch would write: batched,
with factors instead of inverses where possible, without the detours of official code. Float32 throughout, as ours;
always on the CPU, wherever ours run, which the figures report.
"""

# pyright: reportMissingImports=false
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

EXPONENTS = range(-8, 9)  # of the ridges that RanPAC tries
BATCH = 4096
LONG = 20.0  # seconds; what takes longer is timed once


class Rows(NamedTuple):
    """Features and labels, in random order."""

    train_features: np.ndarray  # [B, D] float32 >= 0
    train_labels: np.ndarray  # [B] int32
    test_features: np.ndarray
    test_labels: np.ndarray


def _ncm(x: Any, y: Any, classes: int, **_: Any) -> Callable[[Any], Any]:
    import torch

    means = (
        torch.zeros(classes, x.shape[1]).index_add_(0, y, x) / torch.bincount(y, minlength=classes)[:, None]
    )
    means = torch.nn.functional.normalize(means)
    return lambda f: (f @ means.T).argmax(1)


def _slda(x: Any, y: Any, classes: int, **_: Any) -> Callable[[Any], Any]:
    import torch

    means = (
        torch.zeros(classes, x.shape[1]).index_add_(0, y, x) / torch.bincount(y, minlength=classes)[:, None]
    )
    centred = x - means[y]
    covariance, dim = centred.T @ centred / len(x), x.shape[1]
    mean, square = covariance.diagonal().mean(), covariance.square().mean()
    shrinkage = min(1.0, float((square + mean**2) / ((len(x) + 1) * (square - mean**2 / dim))))
    covariance = (1 - shrinkage) * covariance + shrinkage * mean * torch.eye(dim)
    factor = torch.linalg.cholesky((1 - 1e-4) * covariance + 1e-4 * torch.eye(dim))
    weights = torch.cholesky_solve(means.T, factor)
    offsets = (means.T * weights).sum(0) / 2
    return lambda f: (f @ weights - offsets).argmax(1)


def _fecam(x: Any, y: Any, classes: int, **_: Any) -> Callable[[Any], Any]:
    import torch

    unit = torch.nn.functional.normalize
    groups = x[y.argsort(stable=True)].reshape(classes, -1, x.shape[1])  # classes of one size
    tukey = groups.sqrt()
    tukey = tukey - tukey.mean(1, keepdim=True)
    covariance = tukey.transpose(1, 2) @ tukey / (tukey.shape[1] - 1)
    eye = torch.eye(x.shape[1])
    for _round in range(2):
        on = covariance.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
        rest = covariance * (1 - eye)
        off = (rest.sum((1, 2)) / (rest != 0).sum((1, 2)))[:, None, None]
        covariance = covariance + on * eye + off * (1 - eye)
    deviation = covariance.diagonal(dim1=1, dim2=2).sqrt()
    covariance = covariance / (deviation[:, :, None] * deviation[:, None, :])
    factors = torch.linalg.cholesky(covariance)
    whitening = torch.linalg.solve_triangular(factors, eye.expand_as(factors), upper=False)
    means = unit(groups.mean(1).sqrt())

    def predict(f: Any) -> Any:
        u = unit(unit(f).sqrt())
        distances = [((u - m) @ w.T).square_().sum(1) for m, w in zip(means, whitening)]
        return torch.stack(distances, 1).argmin(1)

    return predict


def _fetril_svm(x: Any, y: Any, **_: Any) -> Callable[[Any], Any]:
    from sklearn.svm import LinearSVC

    def unit(f: Any) -> np.ndarray:
        f = np.asarray(f)
        return f / np.linalg.norm(f, axis=1, keepdims=True)

    model = LinearSVC(dual=False, C=1.0, tol=1e-4)  # pyright: ignore[reportArgumentType]
    model.fit(unit(x), np.asarray(y))
    return lambda f: model.predict(unit(f))


def _fetril_fc(x: Any, y: Any, classes: int, epochs: int, **_: Any) -> Callable[[Any], Any]:
    import torch

    layer = torch.nn.Linear(x.shape[1], classes)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    with torch.enable_grad():
        for _epoch in range(epochs):
            for rows in torch.randperm(len(x)).split(128):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(layer(x[rows]), y[rows]).backward()
                optimizer.step()
            schedule.step()
    return lambda f: layer(f).argmax(1)


def _acil(x: Any, y: Any, classes: int, layer: Any, **_: Any) -> Callable[[Any], Any]:
    import torch

    gram, cross = _sums(x, torch.nn.functional.one_hot(y, classes).float(), layer)
    gram.diagonal().add_(0.1)
    weights = torch.cholesky_solve(cross, torch.linalg.cholesky(gram))
    return lambda f: ((f @ layer).relu_() @ weights).argmax(1)


def _ranpac(x: Any, y: Any, classes: int, layer: Any, **_: Any) -> Callable[[Any], Any]:
    import torch

    targets = torch.nn.functional.one_hot(y, classes).float()
    cut = 4 * len(x) // 5
    gram, cross = _sums(x[:cut], targets[:cut], layer)
    values, vectors = torch.linalg.eigh(gram)
    values = values.clamp(min=0) + _rounding(gram)
    rotated, held_out = vectors.T @ cross, (x[cut:] @ layer).relu_() @ vectors
    errors = {
        10.0**exponent: float(
            (held_out @ (rotated / (values + 10.0**exponent)[:, None]) - targets[cut:]).square().sum()
        )
        for exponent in EXPONENTS
    }
    rest = _sums(x[cut:], targets[cut:], layer)
    gram, cross = gram + rest[0], cross + rest[1]
    gram.diagonal().add_(min(errors, key=errors.__getitem__) + _rounding(gram))
    weights = torch.cholesky_solve(cross, torch.linalg.cholesky(gram))
    return lambda f: ((f @ layer).relu_() @ weights).argmax(1)


def _herding(x: Any, y: Any, classes: int, exemplars: int, **_: Any) -> Callable[[Any], Any]:
    import torch

    picks = torch.full((classes, exemplars), -1)
    for label in range(classes):
        rows = (y == label).nonzero()[:, 0]
        images = torch.nn.functional.normalize(x[rows])
        mean, total, left = images.mean(0), torch.zeros(x.shape[1]), torch.ones(len(rows), dtype=torch.bool)
        for k in range(min(exemplars, len(rows))):
            distances = (mean - (images + total) / (k + 1)).square().sum(1)
            place = distances.masked_fill_(~left, torch.inf).argmin()
            picks[label, k], left[place] = rows[place], False
            total = total + images[place]
    return lambda f: picks


def _rounding(gram: Any) -> float:
    """Keeps a singular sum positive definite in float32, as ours does: eps times its trace."""
    return float(np.finfo(np.float32).eps * gram.diagonal().sum())


def _sums(x: Any, targets: Any, layer: Any) -> tuple[Any, Any]:
    import torch

    gram, cross = torch.zeros(layer.shape[1], layer.shape[1]), torch.zeros(layer.shape[1], targets.shape[1])
    for rows, target in zip(x.split(BATCH), targets.split(BATCH)):
        hidden = (rows @ layer).relu_()
        gram.addmm_(hidden.T, hidden)
        cross.addmm_(hidden.T, target)
    return gram, cross


PLAIN = {
    "ncm": _ncm,
    "slda": _slda,
    "fecam": _fecam,
    "fetril_svm": _fetril_svm,
    "fetril_fc": _fetril_fc,
    "acil": _acil,
    "ranpac": _ranpac,
    "herding": _herding,
}


def _serve(name: str, scratch: str, settings: dict[str, Any]) -> None:
    """Times one of them on the arrays of a folder, prints its figures, and writes its predictions there."""
    folder = pathlib.Path(scratch)
    rows = Rows(*(np.load(folder / f"{key}.npy") for key in Rows._fields))
    library, convert, threads = "scikit-learn", np.asarray, 1  # liblinear has no more
    if name == "fetril_svm":
        import sklearn.svm as _  # so that importing it is not timed
    else:
        import torch

        threads = len(os.sched_getaffinity(0))  # XLA's number of threads
        torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        torch.manual_seed(0)
        library, convert = "torch", lambda array: torch.from_numpy(np.array(array))
        if (folder / "layer.npy").exists():
            settings["layer"] = convert(np.load(folder / "layer.npy"))
    x, y = convert(rows.train_features), convert(rows.train_labels.astype(np.int64))
    unseen = convert(rows.test_features)
    seconds = {"fit": np.inf, "predict": np.inf}
    predicted = np.empty(0)
    for _ in range(settings["rounds"]):
        start = time.perf_counter()
        predict = PLAIN[name](x, y, **settings)
        seconds["fit"] = min(seconds["fit"], time.perf_counter() - start)
        start = time.perf_counter()
        predicted = np.asarray(predict(unseen))
        seconds["predict"] = min(seconds["predict"], time.perf_counter() - start)
        if seconds["fit"] > LONG:
            break
    figures: dict[str, Any] = {"library": library, "device": "cpu", "threads": threads}
    figures["fit_seconds"] = seconds["fit"]
    if name != "herding":
        figures["predict_seconds"] = seconds["predict"]
        figures["accuracy"] = float((predicted == rows.test_labels).mean())
    np.save(folder / "predicted.npy", predicted)
    print(json.dumps(figures))


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
