"""Learners follow the recorded trajectories of the public code, array by array, in float64.

Compared are losses and their terms, rates, gradient and parameter norms after every step, batch-normalisation
statistics and whole tensors at the end of every phase, test logits and features, exemplars, means and the nearest mean.
`JAXCIL_GOLDEN` adds all files of its folder "learners"; small ones are next to the tests.
"""

import functools
import importlib.util
import os
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil.extractors.resnet_cifar import ResNetCIFAR
from jaxcil.extractors.resnet_rebuffi import ResNetRebuffi
from jaxcil.learners.finetune import Finetune
from jaxcil.learners.icarl import ICaRL, ICaRLBCE
from jaxcil.learners.incremental import Incremental, Recipe
from jaxcil.learners.lucir import LUCIR
from jaxcil.learners.lwf import LwF
from jaxcil.learners.podnet import PODNet
from jaxcil.learners.replay import Replay
from jaxcil.learners.wa import WA
from jaxcil.memory.exemplars import Exemplars
from jaxcil.training.learner import Fit, whole
from jaxcil.training.optimizer import sgd

spec = importlib.util.spec_from_file_location("trajectory", pathlib.Path(__file__).with_name("trajectory.py"))
trajectory = sys.modules["trajectory"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(trajectory)

FOLDERS = [pathlib.Path(__file__).parents[1] / "golden"]
if os.environ.get("JAXCIL_GOLDEN"):
    FOLDERS.append(pathlib.Path(os.environ["JAXCIL_GOLDEN"]))
FILES = sorted({path.name: path for folder in FOLDERS for path in folder.glob("learners/*.npz")}.values())


def recipe(recorded, prefix, rate, epochs, milestones, decay):
    hyper = recorded.hyper
    steps = (
        tuple(np.atleast_1d(hyper(milestones)).tolist())
        if milestones and hyper(milestones) is not None
        else ()
    )
    return Recipe(
        sgd(
            hyper(rate),
            hyper(f"{prefix}weight_decay"),
            schedule="step" if steps else "cosine",
            milestones=steps,
            decay=hyper(decay, 0.1),
        ),
        epochs=hyper(epochs),
        batch_size=recorded.meta["batch"],
    )


def exemplars(recorded, **options):
    meta = recorded.meta
    if meta.get("fixed_memory", True):
        return Exemplars(per_class=meta["mem_per_class"], **options)
    return Exemplars(total=meta["mem_total"], **options)


def plain(recorded, method, memory=True, **options):
    prefix = "init_" if recorded.hyper("init_lr") is not None else ""
    later = recipe(recorded, "", "lrate", "epochs", "milestones", "lrate_decay")
    first = (
        recipe(recorded, "init_", "init_lr", "init_epoch", "init_milestones", "init_lr_decay")
        if prefix
        else later
    )
    return Incremental(
        method=method,
        recipes={"first": first, "later": later},
        num_classes=recorded.num_classes,
        network=ResNetCIFAR(blocks=1, convolution=trajectory.convolution),
        task_sizes=recorded.sizes,
        exemplars=exemplars(recorded, **options) if memory else None,
    )


def rebuffi(recorded):
    return ResNetRebuffi(width=8, blocks=(2, 2, 1, 1), convolution=trajectory.convolution)


def make_icarl_bce(recorded):
    meta = recorded.meta
    rates = recipe(recorded, "", "lr", "epochs", "scheduling", "lr_decay").replace(delay=1)
    total = meta["memory_size_argument"]
    fixed = meta.get("fixed_memory", True)
    kept = {"per_class": total // recorded.num_classes} if fixed else {"total": total}
    return Incremental(
        method=ICaRLBCE(rectified=True),
        recipes={"first": rates, "later": rates},
        num_classes=recorded.num_classes,
        network=rebuffi(recorded),
        task_sizes=recorded.sizes,
        exemplars=Exemplars(**kept, rule="icarl"),
    )


def make_lucir(recorded):
    hyper = recorded.hyper
    rates = recipe(recorded, "", "base_lr", "epochs", "lr_strat", "lr_factor")
    fine = hyper("ft_epochs") is not None
    tuned = recipe(recorded, "", "ft_lr", "ft_epochs", "ft_strat", "lr_factor") if fine else rates
    return Incremental(
        method=LUCIR(
            less_forget=hyper("lamda"),
            margin=hyper("dist"),
            margin_weight=hyper("lw_mr"),
            hardest=hyper("K"),
            balanced=fine,
            mirror="channels",
        ),
        recipes={"first": rates, "later": rates, "balanced": tuned},
        num_classes=recorded.num_classes,
        network=ResNetCIFAR(
            blocks=(1, 1, 2), shortcut="B", last_relu=False, convolution=trajectory.convolution
        ),
        task_sizes=recorded.sizes,
        exemplars=exemplars(recorded, rule="icarl", ascending=True),
    )


def make_podnet(recorded):
    hyper, meta = recorded.hyper, recorded.meta
    nme = recorded.name == "podnet_nme"
    rates = recipe(recorded, "", "lr", "epochs", None, None).replace(delay=1, clamp=5.0)
    tuned = Recipe(
        sgd(hyper("ft_lr"), hyper("weight_decay"), schedule="constant"),
        epochs=hyper("ft_epochs"),
        batch_size=meta["batch"],
        clamp=5.0,
    )
    total = meta["memory_size_argument"]
    kept = (
        {"per_class": total // recorded.num_classes} if meta.get("fixed_memory", True) else {"total": total}
    )
    return Incremental(
        method=PODNet(
            flat=hyper("pod_flat"),
            spatial=hyper("pod_spatial"),
            scaling=hyper("scaling"),
            proxies=hyper("proxies"),
            learned_scale=not nme,
            random_start=False,
        ),
        recipes={"first": rates, "later": rates, "balanced": tuned},
        num_classes=recorded.num_classes,
        network=rebuffi(recorded),
        task_sizes=recorded.sizes,
        exemplars=Exemplars(**kept, rule="icarl"),
    )


MAKERS = {
    "pycil_finetune": lambda recorded: plain(recorded, Finetune(), memory=False),
    "pycil_lwf": lambda recorded: plain(
        recorded, LwF(recorded.hyper("T"), recorded.hyper("lamda")), memory=False
    ),
    "pycil_replay": lambda recorded: plain(recorded, Replay()),
    "pycil_icarl": lambda recorded: plain(recorded, ICaRL(temperature=recorded.hyper("T"))),
    "pycil_wa": lambda recorded: plain(recorded, WA(temperature=recorded.hyper("T"))),
    "icarl_bce": make_icarl_bce,
    "lucir": make_lucir,
    "podnet": make_podnet,
}
TERMS = {
    "classification": ("ce", "lsc"),
    "distillation": ("kd",),
    "less_forget": ("less_forget_unweighted",),
    "margin_ranking": ("margin_ranking_unweighted",),
    "flat": ("flat_unweighted",),
    "spatial": ("pod_spatial_unweighted",),
    "loss": ("total",),
}


def maker_of(recorded):
    """That of the longest name which the file's begins with."""
    fitting = [name for name in MAKERS if recorded.name.startswith(name)]
    return MAKERS[max(fitting, key=len)] if fitting else None


@functools.cache
def compiled(step):
    """A step and its gradient, one program for each shape."""
    return jax.jit(
        lambda learner, state, batch, key: (
            step.gradient(learner, state, batch, key)[0],
            *step(learner, state, batch, key),
        )
    )


class Follower:
    """A learner that is led along a trajectory."""

    def __init__(self, recorded, learner):
        self.recorded, self.learner = recorded, learner
        variables = learner.network.init(jax.random.key(0), recorded.train[:1])
        recorded.shape_of = {
            str(name): trajectory.leaf_of(variables, str(name)).shape
            for name in recorded.arrays["backbone_state_names"]
        }
        state = learner.init(jax.random.key(0), recorded.train[:1])
        start = trajectory.as_flax(recorded.backbone())
        model = state.model._replace(network=start["params"], batch_stats=start["batch_stats"])
        self.state = state._replace(model=model, teacher=None if state.teacher is None else model)
        self.differences = trajectory.Differences()

    def run(self):
        arrays = self.recorded.arrays
        for number in range(len(self.recorded.sizes)):
            task, trained = self.recorded.task(number), 0
            for phase in self.learner.phases(number):
                if isinstance(phase, Fit):
                    self.state = trajectory.run_fit(self.recorded, self.learner, phase, self.state, task)
                    if phase.name == "new classes":
                        self.overwrite(number)
                    if phase.name == "imprinting" and f"t{number}/imprinted_proxies" in arrays:
                        first, last = self.recorded.starts[number : number + 2]
                        ours = self.state.model.output["rows"]["proxies"][first:last]
                        recorded = arrays[f"t{number}/imprinted_proxies"]
                        self.differences.compare(
                            f"t{number}/imprinted", ours.reshape(recorded.shape), recorded
                        )
                    continue
                if trained:
                    self.compare_point(
                        task, "end" if f"t{number}/after_cbf/bn_mean" in arrays else "after_phase0"
                    )
                elif f"t{number}/start/bn_mean" in arrays:
                    self.compare_point(task, "start")
                self.train(phase, task, trained)
                trained += 1
            self.compare_point(task, "after_cbf" if f"t{number}/after_cbf/bn_mean" in arrays else "end")
        self.differences.check()

    def overwrite(self, number):
        """The fresh rows of the output layer are the recorded draw."""
        first, last = self.recorded.starts[number], self.recorded.starts[number + 1]
        output = self.state.model.output
        name = next(name for name in output["rows"] if name in ("weights", "proxies"))
        rows = output["rows"][name]
        whole = not self.recorded.name.startswith(("icarl_bce", "podnet"))  # else a block for each task
        count = (last if whole else last - first) * int(np.prod(rows.shape[1:-1]))
        drawn = self.recorded.head(number, 0, (count, rows.shape[-1])).reshape(-1, *rows.shape[1:])
        rows = rows.at[first:last].set(drawn[first - last :])
        model = self.state.model._replace(output={**output, "rows": {**output["rows"], name: rows}})
        self.state = self.state._replace(model=model)

    def train(self, phase, task, number):
        recorded, learner = self.recorded, self.learner
        place = f"t{task.index}/phase{number}"
        key = jax.random.key(0)
        parts = phase.parts(learner, self.state, task, key)
        rows = recorded.arrays[f"{place}/batch_rows"]
        of_epoch = -(-len(whole(parts[0].rows)) // parts[0].size)
        assert sorted(rows[:of_epoch][rows[:of_epoch] >= 0]) == sorted(whole(parts[0].rows)), place
        state = phase.begin(learner, self.state, task, key)
        for at, of_step in enumerate(rows):
            epochs = len(rows) // of_epoch
            batch = trajectory.batch_of(recorded, of_step, (at, len(rows), at // of_epoch, epochs))
            gradient, state, metrics = compiled(phase.step)(learner, state, batch, key)
            self.compare_step(f"{place}", at, state, gradient, phase, batch)
            for name, value in metrics.items():
                for term in TERMS.get(name, ()):
                    if f"{place}/loss_{term}" in recorded.arrays:
                        there = recorded.arrays[f"{place}/loss_{term}"][at]
                        self.differences.compare(f"{place}/loss_{term}[{at}]", value, there)
            self.compare_norms(
                f"{place}/param_norm", recorded.arrays[f"{place}/param_norm"][at], place, state.model, at
            )
        self.state = phase.end(learner, state, self.state, task)

    def compare_step(self, place, at, state, gradient, phase, batch):
        recipe_ = self.learner.recipes[phase.step.recipe]
        rate = recipe_.optimizer.learning_rate * recipe_.factor(batch)
        self.differences.compare(f"{place}/lr[{at}]", rate, self.recorded.arrays[f"{place}/lr"][at][0])
        nothing = {
            name: jax.tree.map(lambda p: p * jnp.nan, getattr(state.model, name))
            for name in ("network", "output")
        }
        model = state.model._replace(**nothing)
        norms = self.recorded.arrays[f"{place}/grad_norm"][at]
        self.compare_norms(f"{place}/grad_norm", norms, place, model._replace(**gradient), at)

    def compare_norms(self, what, norms, place, model, at):
        names = self.recorded.arrays[f"{place}/param_names"]
        ours = [np.linalg.norm(self.tensor(str(name), model)) for name in names]
        known = ~np.isnan(norms) & ~np.isnan(ours)
        self.differences.compare(f"{what}[{at}]", np.array(ours)[known], norms[known])

    def tensor(self, name, model):
        """A parameter by its torch name."""
        starts, rows, shared = self.recorded.starts, model.output["rows"], model.output["shared"]
        seen = int((np.asarray(self.state.task_of_class) >= 0).sum())
        before = int(starts[list(starts).index(seen) - 1])
        if name.startswith("classifier._weights."):
            number = int(name.rpartition(".")[2])
            block = rows.get("proxies", rows.get("weights"))[starts[number] : starts[number + 1]]
            return block.reshape(-1, block.shape[-1])
        if name.startswith("classifier._bias."):
            number = int(name.rpartition(".")[2])
            return rows["bias"][starts[number] : starts[number + 1]]
        if name.startswith("fc."):
            part, leaf = (
                {"fc.fc1.weight": slice(0, before), "fc.fc2.weight": slice(before, seen)}.get(
                    name, slice(0, seen)
                ),
                name.rpartition(".")[2],
            )
            if leaf == "sigma":
                return np.reshape(shared.get("sigma", shared.get("eta")), 1)
            block = rows["bias"] if leaf == "bias" else rows.get("proxies", rows.get("weights"))
            return block[part].reshape(-1, *block.shape[-1:]) if block.ndim > 1 else block[part]
        if name == "post_processor.factor":
            return shared["eta"]
        variables = {"params": model.network, "batch_stats": model.batch_stats}
        return trajectory.leaf_of(variables, name)

    def compare_point(self, task, point):
        place = f"t{task.index}/{point}"
        recorded, compare, arrays = self.recorded, self.differences.compare, self.recorded.arrays
        model, state, learner = self.state.model, self.state, self.learner
        seen = int(task.seen.sum())
        for statistic, leaf in (("bn_mean", "running_mean"), ("bn_var", "running_var")):
            ours = [self.tensor(f"{name}.{leaf}", model) for name in arrays[f"{place}/bn_names"]]
            compare(f"{place}/{statistic}", np.concatenate(ours), arrays[f"{place}/{statistic}"])
        for name, value in arrays.items():
            if name.startswith(f"{place}/full/"):
                compare(name, self.tensor(name.removeprefix(f"{place}/full/"), model), value)
        if f"{place}/test_logits" not in arrays:
            return
        features = jax.jit(learner.features)(state, recorded.test)
        readings = learner.readings(state, features)
        raw = learner.method.mean_features(features)
        for name in ("test_features", "test_raw_features"):
            if f"{place}/{name}" in arrays:
                compare(f"{place}/{name}", raw, arrays[f"{place}/{name}"])
        compare(f"{place}/test_logits", readings["cnn"][:, :seen], arrays[f"{place}/test_logits"])
        assert np.isneginf(readings["cnn"][:, seen:]).all()
        if f"{place}/exemplar_rows" not in arrays or point != "end":
            return
        kept = np.asarray(state.memory[:seen])
        compare(f"{place}/exemplar_rows", kept[kept >= 0], arrays[f"{place}/exemplar_rows"])
        for name in ("class_means", "class_means_exemplars"):
            if f"{place}/{name}" in arrays:
                compare(f"{place}/{name}", state.means[:seen], arrays[f"{place}/{name}"])
        compare(f"{place}/nme_pred", readings["nme"].argmax(-1), arrays[f"{place}/nme_pred"])
        distance = arrays[f"{place}/nme_distance"]
        if recorded.name.startswith("lucir"):  # of features of any length: the same order
            distance = np.argsort(distance, axis=1)
            compare(f"{place}/nme_distance", np.argsort(-readings["nme"][:, :seen], axis=1), distance)
        else:
            compare(f"{place}/nme_distance", -readings["nme"][:, :seen], distance)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_learner_follows_the_recorded_trajectory(path, x64):
    recorded = trajectory.Recorded(path)
    maker = maker_of(recorded)
    if maker is None:
        pytest.skip("not written yet")
    Follower(recorded, maker(recorded)).run()
