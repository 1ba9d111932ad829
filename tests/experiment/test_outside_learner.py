"""A learner from outside the package goes through a whole run: results, pages, resume, next to a built-in one."""

from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from jaxcil import experiment, keys
from jaxcil.cli.arguments import parse
from jaxcil.errors import InputError
from jaxcil.evaluation.reports import page
from jaxcil.evaluation.reports.finished_runs import read_run
from jaxcil.training import checkpoint, tasks
from jaxcil.training.learner import Fit, Part, Training, whole
from jaxcil.workdir import files

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::UserWarning", "ignore::ResourceWarning"
)


class State(NamedTuple):
    """A convolution, an output layer, the means of classes, and which were seen."""

    kernel: Any
    weights: Any
    means: Any
    seen: Any


@flax.struct.dataclass
class Mine:
    """One convolution that is trained in every task, read by its output layer and by nearest means."""

    rate: float
    classes: int = flax.struct.field(pytree_node=False)
    size: int = flax.struct.field(pytree_node=False)
    frozen_after = None
    reading_names = ("cnn", "nme")
    logit_readings = ("cnn",)

    def init(self, key, images):
        kernel = 0.3 * jax.random.normal(
            keys.purpose_key(key, "initial weights"), (3, 3, images.shape[-1], 6)
        )
        zeros = jnp.zeros((self.classes, 6))
        return State(kernel, zeros, zeros, jnp.zeros(self.classes, bool))

    def phases(self, task_index):
        train = Training("mine", Mine.parts, Mine.begin, Mine.step, Mine.end, epochs=2)
        return train, Fit("means", lambda learner, state, task, key: {"task": task.rows}, Mine.fit)

    def features(self, state, images):
        dimensions = ("NHWC", "HWIO", "NHWC")
        maps = jax.lax.conv_general_dilated(
            images, state.kernel, (2, 2), "SAME", dimension_numbers=dimensions
        )
        return jax.nn.relu(maps).mean((1, 2))

    def readings(self, state, features):
        distances = ((features[:, None] - state.means[None]) ** 2).sum(-1)
        scores = {"cnn": features @ state.weights.T, "nme": -distances}
        return {name: jnp.where(state.seen[None], of_name, -jnp.inf) for name, of_name in scores.items()}

    def scores(self, state, images):
        return self.readings(state, self.features(state, images))["cnn"]

    def parts(self, state, task, key):
        return (Part(whole(task.rows), self.size),)

    def begin(self, state, task, key):
        auxiliary = jnp.where(task.auxiliary < 0, self.classes, task.labels[task.auxiliary])
        return state._replace(seen=(state.seen | task.new).at[auxiliary].set(True, mode="drop"))

    def step(self, state, batch, key):
        def loss(parameters):
            now = state._replace(kernel=parameters[0], weights=parameters[1])
            logits = self.scores(now, batch.images / 127.5 - 1)
            log = jax.nn.log_softmax(logits)
            return -jnp.take_along_axis(log, batch.labels[:, None], 1).mean()

        value, gradients = jax.value_and_grad(loss)((state.kernel, state.weights))
        kernel, weights = (
            old - self.rate * change for old, change in zip((state.kernel, state.weights), gradients)
        )
        return state._replace(kernel=kernel, weights=weights), {"loss": value}

    def end(self, train_state, state, task):
        return train_state._replace(seen=state.seen | task.new)

    def fit(self, state, features, labels, task, key):
        ones = jax.nn.one_hot(labels["task"], self.classes)  # padding has none
        means = ones.T @ features["task"]["images"] / jnp.maximum(ones.sum(0), 1)[:, None]
        return state._replace(means=jnp.where(task.new[:, None], means, state.means))


def maker(setup, rate=0.5):
    return Mine(rate=rate, classes=setup.num_classes, size=setup.batch_size)


@flax.struct.dataclass
class Pixels:
    """Nearest means of the grey levels of a few pixels, which no training changes."""

    classes: int = flax.struct.field(pytree_node=False)
    frozen_after = 0
    reading_names = ("means",)

    def init(self, key, images):
        return {"sums": jnp.zeros((self.classes, 4)), "counts": jnp.zeros(self.classes)}

    def phases(self, task_index):
        return (
            Fit("sums", lambda learner, state, task, key: {"task": task.rows}, Pixels.fit, reading="means"),
        )

    def features(self, state, images):
        return images[:, :2, :2].mean(-1).reshape(len(images), 4)

    def readings(self, state, features):
        means = state["sums"] / jnp.maximum(state["counts"], 1)[:, None]
        distances = ((features[:, None] - means[None]) ** 2).sum(-1)
        return {"means": jnp.where(state["counts"][None] > 0, -distances, -jnp.inf)}

    def scores(self, state, images):
        return self.readings(state, self.features(state, images))["means"]

    def fit(self, state, features, labels, task, key):
        ones = jax.nn.one_hot(labels["task"], self.classes)
        sums = state["sums"] + ones.T @ features["task"]["images"]
        return {"sums": sums, "counts": state["counts"] + ones.sum(0)}


@pytest.fixture(scope="module")
def make_config(tmp_path_factory):
    """Makes configs of runs on small images of six classes, whose colours differ."""
    root = tmp_path_factory.mktemp("images")
    generator = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 4)):
        for label, name in enumerate(("ant", "bee", "cat", "dog", "elk", "fox")):
            (root / split / name).mkdir(parents=True)
            for n in range(count):
                colour = 255 * np.array([label % 2, label // 2 % 2, label // 4])
                image = np.clip(colour + generator.normal(0, 40, (8, 8, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(image).save(root / split / name / f"{n}.png")
    small = (
        f"dataset={root}",
        "variants=plain,real_future",
        "learners=mine,",
        "heads=ncm",
        "seeds=3,5",
        "training.steps=2",
        "training.batch_size=4",
        "training.checkpoint_every=3",
    )

    def make(*changes):
        return parse(["--config=quickstart", *(f"--config.{field}" for field in (*small, *changes))])[0]

    return make


@pytest.fixture(scope="module")
def finished(make_config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    experiment.run(make_config(), folder, learners={"mine": maker})
    return folder


def test_a_learner_that_keeps_training_leaves_results_a_page_and_a_report(finished, tmp_path):
    results = files.read_json(finished / "results.json")
    assert [(run["learner"], run["variant"], run["reading"], run["seed"]) for run in results["runs"]] == [
        ("mine", variant, reading, seed)
        for variant in ("plain", "real_future")
        for reading in ("cnn", "nme")
        for seed in (3, 5)
    ]
    for run in results["runs"]:
        assert len(run["accuracy_matrix"]) == 3
        assert (run["last_calibration_error"] is None) == (run["reading"] == "nme")
    # nearest means forget little, and colours are easy; an output layer without rehearsal forgets
    (mean,) = [run for run in results["runs"][:4] if (run["reading"], run["seed"]) == ("nme", 3)]
    assert mean["average_incremental_accuracy"] > 0.5
    assert "mine" in (finished / "report.html").read_text()
    page.write_report(tmp_path, [read_run(finished)])
    assert "mine" in (tmp_path / "report.html").read_text()


class Stop(Exception):
    """In the place of a kill."""


def test_a_learner_interrupted_in_its_second_task_resumes_to_the_same_bytes(
    finished, make_config, tmp_path, monkeypatch
):
    save, saved = checkpoint.Checkpoints.save, []

    def until_second_task(store, number, tree, cursor):
        save(store, number, tree, cursor)
        saved.append((cursor["task"], cursor["steps"]))
        if cursor["task"] == 1 and cursor["steps"] == 3:  # of eight
            raise Stop

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint.Checkpoints, "save", until_second_task)
        with pytest.raises(Stop):
            experiment.run(make_config(), tmp_path, learners={"mine": maker})
    assert (1, 3) in saved
    assert not (tmp_path / "results.json").exists()
    resumed = []

    def counting(store, number, tree, cursor):
        resumed.append((cursor["task"], cursor["steps"]))
        save(store, number, tree, cursor)

    monkeypatch.setattr(checkpoint.Checkpoints, "save", counting)
    experiment.run(make_config(), tmp_path, learners={"mine": maker})
    assert resumed[0] == (1, 6)
    names = [f"learners/{variant}-mine/{name}" for variant in ("plain", "real_future") for name in KEPT]
    for name in ("results.json", "results.csv", *names):
        assert (tmp_path / name).read_bytes() == (finished / name).read_bytes(), name


KEPT = ("measurements.json", "state.safetensors", "measurements.json.sha256", "state.safetensors.sha256")


def test_learners_added_to_a_run_give_the_bytes_of_a_run_made_at_once(finished, make_config, tmp_path):
    makers = {"mine": maker, "pixels": lambda setup: Pixels(setup.num_classes)}
    both = ("learners=frozen,pixels,mine", "variants=plain")
    at_once, grown = tmp_path / "at once", tmp_path / "grown"
    experiment.run(make_config(*both), at_once, learners=makers)
    experiment.run(make_config("learners=mine,", "variants=plain"), grown, learners=makers)
    path = grown / "learners/plain-mine/state.safetensors"
    before = path.stat()
    experiment.run(make_config(*both), grown, learners=makers)
    assert (grown / "results.json").read_bytes() == (at_once / "results.json").read_bytes()
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    runs = files.read_json(grown / "results.json")["runs"]
    assert [(run["learner"], run["reading"]) for run in runs[::2]] == [
        ("frozen", "ncm"),
        ("pixels", "means"),
        ("mine", "cnn"),
        ("mine", "nme"),
    ]
    assert runs[2]["average_incremental_accuracy"] > 0.5
    # a learner is the same whatever others there are
    alone = files.read_json(finished / "results.json")["runs"]
    assert [run for run in runs if run["learner"] == "mine"] == [
        run for run in alone if run["variant"] == "plain"
    ]


def test_options_that_the_maker_does_not_have_are_refused_before_any_training(
    make_config, tmp_path, monkeypatch
):
    def never(*arguments, **options):
        raise AssertionError("trained something")

    monkeypatch.setattr(tasks, "learn", never)
    config = make_config().to_dict() | {"learner_options": {"mine": {"raet": 0.1}}}
    with pytest.raises(InputError, match=r"no option of mine 'raet'.*Did you mean 'rate'"):
        experiment.run(config, tmp_path, learners={"mine": maker})
