"""Learners follow the recorded trajectories of the public code, array by array, in float64.

Compared are losses and their terms, rates, gradient and parameter norms after every step, batch-normalisation
statistics and whole tensors at the end of every phase, test logits and features, exemplars, means and the nearest mean.
`JAXCIL_GOLDEN` adds all files of its folder "learners"; small ones are next to the tests, some of them slow.
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
from jaxcil.learners.bic import BiC
from jaxcil.learners.branches import Branches
from jaxcil.learners.der import DER, warm_up
from jaxcil.learners.finetune import Finetune
from jaxcil.learners.foster import FOSTER, Boosted
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


def _beside(name):
    spec = importlib.util.spec_from_file_location(name, pathlib.Path(__file__).with_name(f"{name}.py"))
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


trajectory = _beside("trajectory")
branched = _beside("branched")

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


def exemplars(recorded, fixed=None, **options):
    meta = recorded.meta
    if meta.get("fixed_memory", True) if fixed is None else fixed:
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
        exemplars=exemplars(recorded, rule="icarl"),
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


def make_pycil_podnet(recorded):
    hyper = recorded.hyper
    rates = recipe(recorded, "", "lrate", "epochs", None, None)
    tuned = recipe(recorded, "", "ft_lrate", "ft_epochs", None, None)
    return Incremental(
        method=PODNet(
            flat=hyper("lambda_f_base"),
            spatial=hyper("lambda_c_base"),
            scaling=None,
            proxies=hyper("nb_proxy"),
            imprinted=False,
            whole=True,
        ),
        recipes={"first": rates, "later": rates, "balanced": tuned},
        num_classes=recorded.num_classes,
        network=ResNetCIFAR(
            blocks=(1, 1, 2), shortcut="B", last_relu=False, convolution=trajectory.convolution
        ),
        task_sizes=recorded.sizes,
        exemplars=exemplars(recorded),
    )


def make_bic(recorded):
    total = int(recorded.hyper("split_ratio") * recorded.meta["mem_total"])
    return plain(recorded, BiC(recorded.hyper("T"), total=total))


def several(learner, recorded, count=None):
    """The learner with several networks."""
    return learner.replace(network=Branches(learner.network, count or len(recorded.sizes)))


def make_der_official(recorded):
    hyper = recorded.hyper
    warm = hyper("warmup_epochs")
    rates = recipe(recorded, "", "lr", "epochs", "scheduling", "lr_decay")
    rates = rates.replace(epochs=rates.epochs - warm)
    rise = warm_up(hyper("lr"), hyper("weight_decay"), warm, rates.batch_size)
    head = recipe(
        recorded, "decouple_", "decouple_lr", "decouple_epochs", "decouple_scheduling", "decouple_lr_decay"
    )
    learner = Incremental(
        method=DER(hyper("decouple_temperature")),
        recipes={"first": rates, "later": rates, "warm-up": rise, "first warm-up": rise, "head": head},
        num_classes=recorded.num_classes,
        network=ResNetCIFAR(blocks=1, convolution=trajectory.convolution),
        task_sizes=recorded.sizes,
        exemplars=exemplars(
            recorded, fixed=recorded.meta["memory_mode"] == "uniform_fixed_per_cls", rule="icarl"
        ),
    )
    return several(learner, recorded)


def make_foster(recorded):
    hyper = recorded.hyper
    method = FOSTER(hyper("beta1"), hyper("beta2"), hyper("lambda_okd"), hyper("T"))
    first = recipe(recorded, "init_", "init_lr", "init_epochs", None, None)
    later = recipe(recorded, "", "lr", "boosting_epochs", None, None)
    compression = Recipe(
        sgd(hyper("lr"), 0.0), epochs=hyper("compression_epochs"), batch_size=later.batch_size
    )
    learner = Boosted(
        method=method,
        recipes={"first": first, "later": later, "compression": compression},
        num_classes=recorded.num_classes,
        network=ResNetCIFAR(blocks=1, convolution=trajectory.convolution),
        task_sizes=recorded.sizes,
        exemplars=exemplars(recorded),
    )
    return several(learner, recorded, 2)


MAKERS = {
    "pycil_finetune": lambda recorded: plain(recorded, Finetune(), memory=False),
    "pycil_lwf": lambda recorded: plain(
        recorded, LwF(recorded.hyper("T"), recorded.hyper("lamda")), memory=False
    ),
    "pycil_replay": lambda recorded: plain(recorded, Replay()),
    "pycil_icarl": lambda recorded: plain(recorded, ICaRL(temperature=recorded.hyper("T"))),
    "pycil_wa": lambda recorded: plain(recorded, WA(temperature=recorded.hyper("T"))),
    "pycil_bic": make_bic,
    "der_official": make_der_official,
    "pycil_der": lambda recorded: several(plain(recorded, DER(None)), recorded),
    "pycil_foster": make_foster,
    "icarl_bce": make_icarl_bce,
    "lucir": make_lucir,
    "podnet": make_podnet,
    "pycil_podnet": make_pycil_podnet,
}
TERMS = {
    "classification": ("ce", "lsc"),
    "distillation": ("kd",),
    "auxiliary": ("aux", "ce2"),
    "newest": ("ce2",),
    "less_forget": ("less_forget_unweighted",),
    "margin_ranking": ("margin_ranking_unweighted",),
    "flat": ("flat_unweighted",),
    "spatial": ("pod_spatial_unweighted",),
    "loss": ("total",),
}


def longest_of(choices, recorded):
    """That of the longest name which the file's begins with; None: there is none."""
    fitting = [name for name in choices if recorded.name.startswith(name)]
    return choices[max(fitting, key=len)] if fitting else None


@functools.cache
def compiled(step):
    """A step and its gradient, one program for each shape."""

    @jax.jit
    def both(learner, state, batch, key):
        gradient, batch_stats, metrics = step.gradient(learner, state, batch, key)
        return gradient, step.moved(learner, state, batch, gradient, batch_stats), metrics

    return both


class Follower:
    """A learner that is led along a trajectory."""

    branches = 1
    ignored = ()  # tensors that ours does not have

    def blocks(self, features, count):
        """Features of that many networks."""
        del count
        return features

    def compare_others(self, task, place, features):
        """What else a file has of test images: nothing."""

    def __init__(self, recorded, learner):
        self.recorded, self.learner = recorded, learner
        network = getattr(learner.network, "network", learner.network)  # of a branch
        variables = network.init(jax.random.key(0), recorded.train[:1])
        recorded.shape_of = {
            str(name): trajectory.leaf_of(variables, str(name)).shape
            for name in recorded.arrays["backbone_state_names"]
        }
        state = learner.init(jax.random.key(0), recorded.train[:1])
        start = trajectory.as_flax(recorded.backbone())
        model = self.started(state.model, start)
        self.state = state._replace(model=model, teacher=None if state.teacher is None else model)
        self.differences = trajectory.Differences()

    def started(self, model, start):
        """A model with the recorded weights."""
        return model._replace(network=start["params"], batch_stats=start["batch_stats"])

    def run(self):
        for number in range(len(self.recorded.sizes)):
            task, trained = self.recorded.task(number), 0
            for phase in self.learner.phases(number):
                if isinstance(phase, Fit):
                    self.state = trajectory.run_fit(self.recorded, self.learner, phase, self.state, task)
                    self.after_fit(phase, number)
                    continue
                self.compare_before(task, trained)
                self.train(phase, task, trained)
                trained += 1
            tuned = f"t{number}/after_cbf/bn_mean" in self.recorded.arrays
            self.compare_point(task, "after_cbf" if tuned else "end")
        self.differences.check()

    def compare_before(self, task, trained):
        """The point before a training."""
        place, arrays = f"t{task.index}", self.recorded.arrays
        if trained:
            self.compare_point(task, "end" if f"{place}/after_cbf/bn_mean" in arrays else "after_phase0")
        elif f"{place}/start/bn_mean" in arrays:
            self.compare_point(task, "start")

    def after_training(self, phase, task, state):
        """What is compared as soon as a training ends: nothing."""

    def span(self, phase, task, number):
        """The recorded phase of a training, and its first and last step."""
        return number, 0, len(self.recorded.arrays[f"t{task.index}/phase{number}/batch_rows"])

    def after_fit(self, phase, number):
        """Recorded draws in place of our own, and what the fit is to agree with."""
        arrays = self.recorded.arrays
        if phase.name == "new classes":
            self.overwrite(number)
        if phase.name == "images set aside" and number:
            rows = arrays[f"t{number}/validation_rows"]
            labels, own = self.recorded.labels[rows], self.state.own
            aside = np.full(own["aside"].shape, -1, np.int32)
            for label in np.unique(labels):
                of_class = rows[labels == label]
                assert len(of_class) == (np.asarray(own["aside"][label]) >= 0).sum()
                aside[label, : len(of_class)] = of_class
            self.state = self.state._replace(own={**own, "aside": jnp.asarray(aside)})
        if phase.name == "imprinting" and f"t{number}/imprinted_proxies" in arrays:
            first, last = self.recorded.starts[number : number + 2]
            ours = self.state.model.output["rows"]["proxies"][first:last]
            recorded = arrays[f"t{number}/imprinted_proxies"]
            self.differences.compare(f"t{number}/imprinted", ours.reshape(recorded.shape), recorded)

    def overwrite(self, number):
        """The fresh rows of the output layer are the recorded draw."""
        first, last = self.recorded.starts[number], self.recorded.starts[number + 1]
        output = self.state.model.output
        name = next(name for name in output["rows"] if name in ("weights", "proxies"))
        rows = output["rows"][name]
        whole = not self.recorded.name.startswith(
            ("icarl_bce", "podnet", "pycil_podnet")
        )  # else a task's block
        count = (last if whole else last - first) * int(np.prod(rows.shape[1:-1]))
        draw = 1 if number and self.recorded.name.startswith("pycil_podnet") else 0  # of those of the task
        drawn = self.recorded.head(number, draw, (count, rows.shape[-1])).reshape(-1, *rows.shape[1:])
        rows = rows.at[first:last].set(drawn[first - last :])
        model = self.state.model._replace(output={**output, "rows": {**output["rows"], name: rows}})
        self.state = self.state._replace(model=model)

    def train(self, phase, task, number):
        recorded, learner = self.recorded, self.learner
        number, first, last = self.span(phase, task, number)
        place = f"t{task.index}/phase{number}"
        key = jax.random.key(0)
        parts = phase.parts(learner, self.state, task, key)
        rows = recorded.arrays[f"{place}/batch_rows"][first:last]
        of_epoch = -(-len(whole(parts[0].rows)) // parts[0].size)
        assert sorted(rows[:of_epoch][rows[:of_epoch] >= 0]) == sorted(whole(parts[0].rows)), place
        state = phase.begin(learner, self.state, task, key)
        for at, of_step in enumerate(rows):
            epochs = len(rows) // of_epoch
            batch = trajectory.batch_of(recorded, of_step, (at, len(rows), at // of_epoch, epochs))
            gradient, state, metrics = compiled(phase.step)(learner, state, batch, key)
            at = first + at
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
        self.after_training(phase, task, state)

    def compare_step(self, place, at, state, gradient, phase, batch):
        recipe_ = self.learner.recipes[phase.step.recipe]
        rate = recipe_.optimizer.learning_rate * recipe_.factor(batch)
        # of the groups that train
        self.differences.compare(f"{place}/lr[{at}]", rate, self.recorded.arrays[f"{place}/lr"][at].max())
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
        if name.startswith("bias_layers."):
            _, number, leaf = name.split(".")
            return shared[leaf][int(number)].reshape(1)
        if name == "post_processor.factor":
            return shared["eta"]
        variables = {"params": model.network, "batch_stats": model.batch_stats}
        return trajectory.leaf_of(variables, name)

    def compare_point(self, task, point):
        place = f"t{task.index}/{point}"
        recorded, compare, arrays = self.recorded, self.differences.compare, self.recorded.arrays
        model, state, learner = self.state.model, self.state, self.learner
        seen = int(task.seen.sum())
        if f"{place}/bn_names" not in arrays:
            return
        for statistic, leaf in (("bn_mean", "running_mean"), ("bn_var", "running_var")):
            ours = [self.tensor(f"{name}.{leaf}", model) for name in arrays[f"{place}/bn_names"]]
            compare(f"{place}/{statistic}", np.concatenate(ours), arrays[f"{place}/{statistic}"])
        for name, value in arrays.items():
            tensor = name.removeprefix(f"{place}/full/")
            if tensor != name and not tensor.startswith(self.ignored):
                compare(name, self.tensor(tensor, model), value)
        if f"{place}/test_logits" not in arrays:
            return
        features = jax.jit(learner.features)(state, recorded.test)
        readings = learner.readings(state, features)
        raw = self.blocks(learner.method.mean_features(features), self.branches)
        for name in ("test_features", "test_raw_features"):
            if f"{place}/{name}" in arrays:
                compare(f"{place}/{name}", raw, arrays[f"{place}/{name}"])
        compare(f"{place}/test_logits", readings["cnn"][:, :seen], arrays[f"{place}/test_logits"])
        if f"{place}/bias_alpha_beta" in arrays:
            shared = model.output["shared"]
            pairs = np.stack([shared["alpha"], shared["beta"]], axis=1)[: task.index + 1]
            compare(f"{place}/bias_alpha_beta", pairs, arrays[f"{place}/bias_alpha_beta"])
        assert np.isneginf(readings["cnn"][:, seen:]).all()
        self.compare_others(task, place, features)
        if f"{place}/exemplar_rows" not in arrays or point != "end":
            return
        kept = np.asarray(state.memory[:seen])
        if recorded.name.startswith(("lucir", "der_official")):  # listed in the order of the rows
            kept = np.sort(kept, axis=1)
        compare(f"{place}/exemplar_rows", kept[kept >= 0], arrays[f"{place}/exemplar_rows"])
        for name in ("class_means", "class_means_exemplars"):
            if f"{place}/{name}" in arrays:
                ours = self.blocks(state.means[:seen], self.branches)
                compare(f"{place}/{name}", ours, arrays[f"{place}/{name}"])
        if f"{place}/nme_pred" not in arrays:
            return
        compare(f"{place}/nme_pred", readings["nme"].argmax(-1), arrays[f"{place}/nme_pred"])
        distance = arrays[f"{place}/nme_distance"]
        if recorded.name.startswith("lucir"):  # of features of any length: the same order
            distance = np.argsort(distance, axis=1)
            compare(f"{place}/nme_distance", np.argsort(-readings["nme"][:, :seen], axis=1), distance)
        else:
            compare(f"{place}/nme_distance", -readings["nme"][:, :seen], distance)


class DERFollower(branched.DERFollower, Follower):
    """Of both forms."""


class FOSTERFollower(branched.FOSTERFollower, Follower):
    """With a student."""


FOLLOWERS = {"der_official": DERFollower, "pycil_der": DERFollower, "pycil_foster": FOSTERFollower}


def follower_of(recorded):
    """A learner that is to follow a file."""
    return (longest_of(FOLLOWERS, recorded) or Follower)(recorded, longest_of(MAKERS, recorded)(recorded))


# Of the small files, those whose programs take minutes to compile
LONG = ("lucir", "podnet_cnn", "pycil_der", "pycil_foster", "pycil_bic")


@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[pytest.mark.slow] * (path.stem in LONG), id=path.stem) for path in FILES],
)
def test_a_learner_follows_the_recorded_trajectory(path, x64):
    recorded = trajectory.Recorded(path)
    follower_of(recorded).run()
