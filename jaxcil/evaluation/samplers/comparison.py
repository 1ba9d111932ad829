"""From settings to a comparison of samplers: what `jaxcil compare-samplers` measures, part by part.

A part is what is measured, and saved, at once: a data set at one number of calls, the limit of a model, or a case of
the orders. Its value is JSON, and no part is measured twice in one directory.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxcil import keys
from jaxcil.evaluation.samplers.compared import DATA, gaussian_quality, mixture_quality
from jaxcil.evaluation.samplers.drawn import image_features, image_quality, judged
from jaxcil.evaluation.samplers.orders import CASES, has_orders, order_errors, order_results
from jaxcil.evaluation.samplers.settings import ComparisonSettings
from jaxcil.evaluation.worth.frechet import Moments, moments
from jaxcil.parallel import mesh
from jaxcil.synthesis.dataset.manifest import package_versions
from jaxcil.workdir.settings import as_dict

SCHEMA = 2
LIMIT = "digits-limit"

# Measure -> sampler -> one value per repetition
Quality = dict[str, dict[str, list[float]]]
Notify = Callable[[], None]


class Part(NamedTuple):
    """One measurement."""

    name: str
    runs: int  # how often `notify` is called
    measure: Callable[[Mapping[str, Any], Notify], Any]  # (parts so far, notify) -> JSON value


def parts(settings: ComparisonSettings) -> list[Part]:
    """All parts of a comparison, in the order in which they are measured."""
    measured: list[Part] = []
    for data in settings.data:
        if data == "digits":
            measured += _digits_parts(settings)
        else:
            measured += [_exact_part(settings, data, nfe) for nfe in settings.nfe]
    if settings.order_nfe:
        cases = [case for case in CASES if has_orders(case, settings.samplers)]
        measured += [Part(case, 1, functools.partial(_orders, case, settings)) for case in cases]
    return measured


def results(settings: ComparisonSettings, measured: Mapping[str, Any]) -> dict[str, Any]:
    """What samplers.json holds.

    Args:
      settings: of the comparison.
      measured: the values of all parts by name.
    """
    quality = []
    for name, value in measured.items():
        if name == LIMIT:
            quality += _entries("digits", None, value["quality"])
        elif name not in CASES:
            data, _, nfe = name.partition("-")
            quality += _entries(data, int(nfe), value)
    cases = {case: measured[case] for case in CASES if case in measured}
    return {
        "schema": SCHEMA,
        "config": as_dict(settings),
        "versions": package_versions(),
        "device": mesh.device_kind(),
        "quality": quality,
        "orders": order_results(settings.order_nfe, cases),
    }


def _entries(data: str, nfe: int | None, quality: Quality) -> Iterator[dict[str, Any]]:
    for measure, samplers in quality.items():
        for sampler, values in samplers.items():
            error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
            yield {
                "data": data,
                "measure": measure,
                "nfe": nfe,
                "sampler": sampler,
                "mean": float(np.mean(values)),
                "standard_error": error,
                "values": values,
            }


def _exact_part(settings: ComparisonSettings, data: str, nfe: int) -> Part:
    """Of data whose exact denoiser is known."""

    def gaussian(measured: Mapping[str, Any], notify: Notify) -> Quality:
        distances = gaussian_quality(settings.samplers, nfe)
        notify()
        return {"wasserstein": {name: [distance] for name, distance in distances.items()}}

    make = DATA[data].mixture
    if make is None:
        return Part(f"{data}-{nfe}", 1, gaussian)

    def mixture(measured: Mapping[str, Any], notify: Notify) -> Quality:
        root = keys.purpose_key(keys.root_key(settings.seed), data)
        sizes = {"points": settings.points, "directions": settings.directions}
        runs = []
        for repetition in range(settings.repetitions):
            key = keys.fold(root, repetition)
            runs.append(mixture_quality(settings.samplers, make(), nfe, key, **sizes))
            notify()
        return _gathered(runs)

    return Part(f"{data}-{nfe}", settings.repetitions, mixture)


def _digits_parts(settings: ComparisonSettings) -> list[Part]:
    digits = settings.digits
    loaded = functools.cache(lambda: judged(digits))

    def limit(measured: Mapping[str, Any], notify: Notify) -> dict[str, Any]:
        drawing, real, seen = loaded()

        def features(seed: int, images: int) -> np.ndarray:
            return image_features([digits.limit.sampler], digits.limit.nfe, seed, images, drawing)[0]

        of_limit = moments(features(digits.limit.seed, digits.limit.images))
        notify()
        runs = []
        for seed in digits.seeds:
            quality = image_quality(features(seed, digits.images), real, of_limit)
            runs.append({measure: {"limit": value} for measure, value in quality.items()})
            notify()
        gathered = _gathered(runs)
        for measure, value in image_quality(seen, real, of_limit).items():
            gathered[measure]["real"] = [value]
        return {"moments": [of_limit.mean.tolist(), of_limit.covariance.tolist()], "quality": gathered}

    def part(nfe: int) -> Part:
        def measure(measured: Mapping[str, Any], notify: Notify) -> Quality:
            drawing, real, _ = loaded()
            of_limit = Moments(*map(np.asarray, measured[LIMIT]["moments"]))
            runs = []
            for seed in digits.seeds:
                features = image_features(settings.samplers, nfe, seed, digits.images, drawing)
                each = [image_quality(of_sampler, real, of_limit) for of_sampler in features]
                names = settings.samplers
                runs.append({name: dict(zip(names, [one[name] for one in each])) for name in each[0]})
                notify()
            return _gathered(runs)

        return Part(f"digits-{nfe}", len(digits.seeds), measure)

    return [Part(LIMIT, 1 + len(digits.seeds), limit), *map(part, digits.nfe)]


def _orders(
    case: str, settings: ComparisonSettings, measured: Mapping[str, Any], notify: Notify
) -> dict[str, list[float]]:
    errors = order_errors(case, settings.samplers, settings.order_nfe)
    notify()
    return errors


def _gathered(runs: Sequence[Mapping[str, Mapping[str, float]]]) -> Quality:
    """Measure -> sampler -> values, from one such table per repetition."""
    return {
        measure: {sampler: [run[measure][sampler] for run in runs] for sampler in samplers}
        for measure, samplers in runs[0].items()
    }
