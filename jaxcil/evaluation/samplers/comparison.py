"""From a config to a comparison of samplers: what `jaxcil compare-samplers` measures, part by part.

A part is what is measured, and kept, at once: a data set at one number of calls, the limit of a model, or a case of
the orders. Its value is JSON, and no part is measured twice in one directory.
"""

import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxcil import keys
from jaxcil.data import datasets
from jaxcil.errors import InputError, unknown_name
from jaxcil.evaluation.samplers.compared import MIXTURES, SAMPLERS, gaussian_quality, mixture_quality
from jaxcil.evaluation.samplers.drawn import Drawing, image_features, image_quality
from jaxcil.evaluation.samplers.orders import CASES, order_errors, order_results
from jaxcil.evaluation.worth.frechet import Moments, moments
from jaxcil.evaluation.worth.judge import Classifier, Judge, train_classifier
from jaxcil.parallel import mesh
from jaxcil.synthesis.dataset import prompts
from jaxcil.synthesis.dataset.manifest import package_versions
from jaxcil.synthesis.drawing import models

SCHEMA = 1
DATA = ("gaussian", *MIXTURES, "digits")
LIMIT = "digits-limit"

# Measure -> sampler -> one value a repetition.
Quality = dict[str, dict[str, list[float]]]


class Part(NamedTuple):
    """One measurement."""

    name: str
    runs: int  # of which it tells when each is done
    measure: Callable[[Mapping[str, Any], Callable[[], None]], Any]  # (parts so far, tell) -> JSON value


class Judged(NamedTuple):
    """A model to draw from, and what judges its images."""

    drawing: Drawing
    classifier: Classifier
    real: np.ndarray  # features [N, D] of real images that nobody has seen
    seen: np.ndarray  # features of other real images, that the model was trained on


def check(config: Any) -> None:
    """Refuses what cannot be compared, before anything is compiled.

    Args:
      config: a ConfigDict with the fields of configs/compare_samplers.py.
    """
    digits = config.digits
    for kind, names, known in (
        ("sampler", config.samplers, SAMPLERS),
        ("data set to compare samplers on", config.data, DATA),
        ("sampler", (digits.limit.sampler,), SAMPLERS),
    ):
        for name in names:
            if name not in known:
                raise unknown_name(kind, name, known)
        if not names or len(set(names)) < len(names):
            raise InputError(f"expected one {kind} or more, none twice; got {', '.join(names) or 'none'}")
    for name, calls in (("calls", config.calls), ("digits.calls", digits.calls)):
        if not calls or list(calls) != sorted(set(calls)) or not 2 <= calls[0] <= calls[-1] <= 1000:
            raise InputError(f"{name} must be rising numbers from 2 to 1000, got {calls}")
    orders = config.order_calls
    if list(orders) != sorted(set(orders)) or any(calls < 4 or calls % 2 for calls in orders):
        raise InputError(f"order_calls must be rising even numbers from 4 on, or none; got {orders}")
    for name, value, least in (
        ("repetitions", config.repetitions, 1),
        ("points", config.points, 8),
        ("directions", config.directions, 1),
        ("digits.images", digits.images, 10),
        ("digits.batch_size", digits.batch_size, 1),
        ("digits.limit.images", digits.limit.images, 10),
        ("digits.limit.calls", digits.limit.calls, 2),
        *((f"digits.judge.{field}", digits.judge[field], 1) for field in ("blocks", "steps", "batch_size")),
    ):
        if value < least:
            raise InputError(f"{name} must be at least {least}, got {value}")
    for name, images in (("digits.images", digits.images), ("digits.limit.images", digits.limit.images)):
        if images % digits.batch_size:
            raise InputError(f"{name} must be a multiple of digits.batch_size, got {images}")
    seeds = (*digits.seeds, digits.limit.seed)
    if len(seeds) < 2 or len(set(seeds)) < len(seeds) or not all(0 <= seed < 2**32 for seed in seeds):
        raise InputError(f"digits.seeds and digits.limit.seed must differ, from 0 to 2^32 - 1; got {seeds}")
    prompts.check_templates(digits.templates)


def parts(config: Any) -> list[Part]:
    """All parts of a comparison, in the order in which they are measured."""
    found: list[Part] = []
    for data in config.data:
        if data == "digits":
            found += _digits_parts(config)
        else:
            found += [_analytic_part(config, data, calls) for calls in config.calls]
    if config.order_calls:
        found += [Part(case, 1, functools.partial(_orders, case, config.order_calls)) for case in CASES]
    return found


def results(config: Any, measured: Mapping[str, Any]) -> dict[str, Any]:
    """What samplers.json holds.

    Args:
      config: as `check` takes it.
      measured: the values of all parts by name.
    """
    quality = []
    for name, value in measured.items():
        if name == LIMIT:
            quality += _entries("digits", None, value["quality"])
        elif name not in CASES:
            data, _, calls = name.partition("-")
            quality += _entries(data, int(calls), value)
    cases = {case: measured[case] for case in CASES if case in measured}
    return {
        "schema": SCHEMA,
        "config": json.loads(config.to_json()),
        "versions": package_versions(),
        "device": mesh.device_kind(),
        "quality": quality,
        "orders": order_results(config.order_calls, cases),
    }


def _entries(data: str, calls: int | None, quality: Quality) -> Iterator[dict[str, Any]]:
    for measure, samplers in quality.items():
        for sampler, values in samplers.items():
            error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
            yield {
                "data": data,
                "measure": measure,
                "calls": calls,
                "sampler": sampler,
                "mean": float(np.mean(values)),
                "standard_error": error,
                "values": values,
            }


def _analytic_part(config: Any, data: str, calls: int) -> Part:
    def gaussian(measured: Mapping[str, Any], tell: Callable[[], None]) -> Quality:
        distances = gaussian_quality(config.samplers, calls)
        tell()
        return {"wasserstein": {name: [distance] for name, distance in distances.items()}}

    def mixture(measured: Mapping[str, Any], tell: Callable[[], None]) -> Quality:
        root = keys.purpose_key(keys.root_key(config.seed), data)
        runs = []
        for repetition in range(config.repetitions):
            key = keys.fold(root, repetition)
            sizes = {"points": config.points, "directions": config.directions}
            runs.append(mixture_quality(config.samplers, MIXTURES[data](), calls, key, **sizes))
            tell()
        return _gathered(runs)

    if data == "gaussian":
        return Part(f"{data}-{calls}", 1, gaussian)
    return Part(f"{data}-{calls}", config.repetitions, mixture)


def _digits_parts(config: Any) -> list[Part]:
    digits = config.digits
    judged = functools.cache(lambda: _judged(digits))

    def limit(measured: Mapping[str, Any], tell: Callable[[], None]) -> dict[str, Any]:
        drawing, classifier, real, seen = judged()
        draw = functools.partial(
            image_features, [digits.limit.sampler], digits.limit.calls, drawing=drawing, classifier=classifier
        )
        of_limit = moments(draw(digits.limit.seed, digits.limit.images)[0])
        tell()
        runs = []
        for seed in digits.seeds:
            runs.append(image_quality(draw(seed, digits.images)[0], real, of_limit))
            tell()
        quality = _gathered([{measure: {"limit": run[measure]} for measure in run} for run in runs])
        for measure, value in image_quality(seen, real, of_limit).items():
            quality[measure]["real"] = [value]
        return {"moments": [of_limit.mean.tolist(), of_limit.covariance.tolist()], "quality": quality}

    def part(calls: int) -> Part:
        def measure(measured: Mapping[str, Any], tell: Callable[[], None]) -> Quality:
            drawing, classifier, real, _ = judged()
            of_limit = Moments(*map(np.asarray, measured[LIMIT]["moments"]))
            runs = []
            for seed in digits.seeds:
                found = image_features(config.samplers, calls, seed, digits.images, drawing, classifier)
                each = [image_quality(features, real, of_limit) for features in found]
                runs.append(
                    {name: dict(zip(config.samplers, [one[name] for one in each])) for name in each[0]}
                )
                tell()
            return _gathered(runs)

        return Part(f"digits-{calls}", len(digits.seeds), measure)

    return [Part(LIMIT, 1 + len(digits.seeds), limit), *map(part, digits.calls)]


def _judged(digits: Any) -> Judged:
    """Loads the model and the real images, and trains the classifier."""
    model = models.load_model(digits.model)
    train, test, seen = (
        datasets.load(digits.dataset, split, data_dir=digits.data_dir)
        for split in ("train", "test", digits.seen)
    )
    side: Any = model.unet.sample_size or 0
    drawn, found = np.broadcast_to(side, 2) * model.vae.factor, test.images.shape[1:3]
    if found != tuple(drawn):
        raise InputError(f"the model draws images of {drawn} pixels, the real ones have {found}")
    classifier = train_classifier(train, Judge(**digits.judge))
    real, others = (np.asarray(classifier.features(jnp.asarray(data.images))) for data in (test, seen))
    drawing = Drawing(model, test.class_names, tuple(digits.templates), digits.batch_size)
    return Judged(drawing, classifier, real, others)


def _orders(
    case: str, calls: Sequence[int], measured: Mapping[str, Any], tell: Callable[[], None]
) -> dict[str, list[float]]:
    errors = order_errors(case, calls)
    tell()
    return errors


def _gathered(runs: Sequence[Mapping[str, Mapping[str, float]]]) -> Quality:
    """Measure -> sampler -> values, from one such table a repetition."""
    return {
        measure: {sampler: [run[measure][sampler] for run in runs] for sampler in samplers}
        for measure, samplers in runs[0].items()
    }
