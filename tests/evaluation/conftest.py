import json

import pytest


def results_of(levels, *, order=1993, seeds=(0, 1), sizes=(2, 2), classes=None, **changes):
    """A results.json: accuracies are `levels[reading, variant]` + seed / 100 after task 0, and 0.2 less at the end.

    A key of `levels` may also name the learner first. `changes` replaces fields of the config, those of its groups as
    group__field.
    """
    config = {
        "dataset": "pets",
        "evaluate_on": "test",
        "seeds": list(seeds),
        "scenario": {"class_order": f"seed-{order}"},
        "training": {"steps": 300, "checkpoint_every": 100},
        "synthetic": {"path": None, "images_per_class": 200},
    }
    for name, value in changes.items():
        group, _, field = name.rpartition("__")
        (config[group] if group else config)[field] = value
    runs = []
    for (*learner, reading, variant), level in levels.items():
        for seed in seeds:
            first = level + seed / 100
            runs.append(
                {
                    "learner": learner[0] if learner else "frozen",
                    "reading": reading,
                    "variant": variant,
                    "seed": seed,
                    "accuracy_matrix": [[first, None], [first - 0.2, first - 0.2]],
                    "average_incremental_accuracy": first - 0.1,
                    "last_accuracy": first - 0.2,
                    "forgetting": 0.2,
                }
            )
    return {
        "schema": 2,
        "config": config,
        "versions": {"jax": "0.10.2"},
        "device": "cpu",
        "class_order": list(range(sum(sizes))),
        "class_names": list(classes or "abcdefgh"[: sum(sizes)]),
        "class_order_hash": f"{order:016x}",
        "task_sizes": list(sizes),
        "test_images": [10 * size for size in sizes],
        "conventions": {"average": "images", "forgetting": "up_to_last"},
        "runs": runs,
        "summary": [],
    }


@pytest.fixture
def finished(tmp_path):
    """Writes the workdir of a finished run, and returns its path."""

    def write(name, levels, **changes):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "results.json").write_text(json.dumps(results_of(levels, **changes)))
        return folder

    return write
