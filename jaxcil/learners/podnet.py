"""PODNet (Douillard et al., ECCV 2020, arXiv:2004.13513): pooled output distillation and several proxies per class.

A class has K proxies w_ck. With u the unit vectors, the score of a class is merged from those of its proxies,

    s_ck = scaling^2 (2 <u(f), u(w_ck)> - 2),   s_c = sum_k softmax_k(s_ck) s_ck                  (1)
    L = LSC(eta s) + F flat (1 - cos(f, f')) + F spatial POD,   F = sqrt(classes seen / new classes)      (2)

with LSC of `losses.margin`, POD of `losses.pod` over the maps of all stages, and f' the teacher's feature. The proxies
of new classes are imprinted: the centres that k-means finds among the unit features of a class's images, of the mean
length of the old proxies. Old proxies keep still. Then a second training on the exemplars, the new classes' included,
moves all proxies and nothing else, though the batch statistics of the network go on moving. After it the exemplars of
the new classes are chosen again.

The authors have two settings, by which classifier is meant to be read, and PyCIL has a port that differs in more:

    cnn     scaling 1, eta learned from 1, spatial 3
    nme     scaling 3, eta 1, spatial 5
    pycil   s_ck the cosine, eta learned, spatial 5; no imprinting, no clamp of the gradient; the second training moves
            everything but the old proxies

The codes hold every element of the gradient in [-5, 5] (not pycil) and keep the first learning rate for two epochs.
"""

import functools
from typing import Literal

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcil.errors import InputError, unknown_name
from jaxcil.heads.class_statistics import check_positive, check_size, rows_by_class
from jaxcil.learners import fits, incremental, steps
from jaxcil.learners.incremental import Classes, Incremental, Outputs, Recipe, State, TrainState
from jaxcil.learners.method import Method
from jaxcil.learners.published import Published, learner
from jaxcil.learners.steps import Step
from jaxcil.losses.distillation import cosine_distillation
from jaxcil.losses.margin import lsc
from jaxcil.losses.pod import POOLINGS, pod
from jaxcil.losses.unit import lengths, unit_rows
from jaxcil.memory.exemplars import Exemplars
from jaxcil.training.learner import AS_THEY_ARE, Batch, Fit, Phase, Setup, Task
from jaxcil.training.optimizer import sgd

PRESETS = ("cnn", "nme", "pycil")
PUBLISHED = Published(epochs=160, learning_rate=0.1, weight_decay=5e-4)
CLAMP = 5.0
MOST_ROUNDS = 100  # of k-means


@flax.struct.dataclass
class PODNet(Method):
    """The output layer, the loss (2) and the phases.

    Attributes:
      flat: weight of the features' distillation.
      spatial: weight of POD.
      scaling: of (1); None: scores are cosines.
      proxies: K.
      pooling: of POD, see `losses.pod`.
      learned_scale: whether eta is learned, from 1; else it is 1.
      imprinted: whether new proxies are imprinted.
      whole: whether the second training moves the network and the new proxies, rather than all proxies.
      random_start: whether k-means starts from random images of a class, rather than from its first ones.
    """

    flat: Array | float = 1.0
    spatial: Array | float = 3.0
    scaling: Array | float | None = 1.0
    proxies: int = flax.struct.field(pytree_node=False, default=10)
    pooling: str = flax.struct.field(pytree_node=False, default="spatial")
    learned_scale: bool = flax.struct.field(pytree_node=False, default=True)
    imprinted: bool = flax.struct.field(pytree_node=False, default=True)
    whole: bool = flax.struct.field(pytree_node=False, default=False)
    random_start: bool = flax.struct.field(pytree_node=False, default=True)

    has_teacher = True
    epsilon = 1e-8

    @property
    def mean_epsilon(self) -> float:
        """As the codes have it."""
        return 0.0 if self.whole else 1e-8

    def empty(self, learner: Incremental, dim: int):
        """Proxies [C, K, D], zero, and eta."""
        proxies = jnp.zeros((learner.columns, self.proxies, dim))
        return {"rows": {"proxies": proxies}, "shared": {"eta": jnp.ones(())} if self.learned_scale else {}}

    def draw(self, key: Array, output) -> dict[str, Array]:
        """Normal with variance 1 / D."""
        proxies = output["rows"]["proxies"]
        return {
            "proxies": jax.random.normal(key, proxies.shape, proxies.dtype)
            / jnp.sqrt(proxies.shape[-1] * 1.0)
        }

    def logits(self, output, features: Array, own) -> Array:
        """s [B, C] of features [B, D], (1); pycil's are scaled by eta."""
        del own
        proxies = unit_rows(output["rows"]["proxies"])
        scores = jnp.einsum("bd,ckd->bck", unit_rows(features), proxies)
        if self.scaling is not None:
            scores = self.scaling**2 * (2 * scores - 2)
        merged = (jax.nn.softmax(scores, axis=-1) * scores).sum(-1)
        return merged * output["shared"]["eta"] if self.whole else merged

    def phases(self, learner: Incremental, task_index: int) -> tuple[Phase, ...]:
        """New classes, imprinting, training, exemplars, the second training, exemplars again, means, teacher."""
        views = AS_THEY_ARE if self.whole else fits.MIRRORED
        memory = (fits.EXEMPLARS, fits.means_over(views), fits.TEACHER)
        if not task_index:
            first = steps.training(learner, "training", Step(PODNet.first_loss, "first"))
            return (fits.GROW, first, *memory)
        step = Step(PODNet.loss, "later", taught=True)
        trains = ("network", "output") if self.whole else ("output",)
        second = Step(PODNet.loss, "balanced", trains=trains, taught=True)
        balanced = (
            BALANCED_EXEMPLARS if self.whole else fits.EXEMPLARS,
            steps.training(
                learner,
                "balanced training",
                second,
                steps.memory_alone,
                _new_proxies if self.whole else _all_proxies,
                balanced=True,
            ),
        )
        return (
            fits.GROW,
            *((IMPRINT,) if self.imprinted else ()),
            steps.training(learner, "training", step, rates=_new_proxies),
            *(balanced if learner.exemplars is not None else ()),
            *memory,
        )

    def first_loss(
        self, new: Outputs, old: None, batch: Batch, state: TrainState
    ) -> tuple[Array, dict[str, Array]]:
        """LSC."""
        del old
        own = self._classification(new, batch, state.classes)
        return own, {"classification": own}

    def loss(
        self, new: Outputs, old: Outputs, batch: Batch, state: TrainState
    ) -> tuple[Array, dict[str, Array]]:
        """Equation (2).

        Raises:
          InputError: the network sows no maps.
        """
        if not new.maps:
            raise InputError("podnet compares maps: its network must sow them, as stage_1, stage_2, ...")
        own = self._classification(new, batch, state.classes)
        flat = steps.mean(cosine_distillation(new.features, old.features), batch.distill)
        spatial = steps.mean(pod(new.maps, old.maps, self.pooling), batch.distill)
        growth = _growth(state.classes)
        loss = own + growth * (self.flat * flat + self.spatial * spatial)
        return loss, {"classification": own, "flat": flat, "spatial": spatial}

    def _classification(self, new: Outputs, batch: Batch, classes: Classes) -> Array:
        scaled = (
            new.logits * new.output["shared"]["eta"] if self.learned_scale and not self.whole else new.logits
        )
        return steps.mean(lsc(scaled, batch.labels, classes.trained), batch.classify)


def _growth(classes: Classes) -> Array:
    seen = (classes.old | classes.new).sum().astype(float)
    return jnp.sqrt(seen / classes.new.sum().astype(float))


def _new_proxies(method: PODNet, state: State, classes: Classes):
    """Old proxies keep still."""
    return steps.trained_rows(method, state, classes._replace(trained=classes.trained & ~classes.old))


def _all_proxies(method: PODNet, state: State, classes: Classes):
    """All proxies train; eta keeps still."""
    rates = steps.trained_rows(method, state, classes)
    rates["output"]["shared"] = incremental.everywhere(0, state.model.output["shared"])
    return rates


def _imprint(learner: Incremental, state: State, features, labels, task: Task, key: Array) -> State:
    method, classes = learner.method, learner.masks(task)
    proxies = state.model.output["rows"]["proxies"]
    size = learner.images_per_class or int(np.bincount(np.asarray(labels["task"]) + 1)[1:].max(initial=1))
    start = key if method.random_start else None
    centres = centres_of_classes(
        unit_rows(features["task"]["images"]), labels["task"], proxies.shape[0], size, method.proxies, start
    )
    sizes = lengths(proxies)[..., 0].mean(1)
    length = jnp.where(classes.old, sizes, 0).sum() / classes.old.sum().astype(sizes.dtype)
    imprinted = jnp.where(classes.new[:, None, None], centres * length, proxies)
    output = {**state.model.output, "rows": {"proxies": imprinted}}
    return state._replace(model=state.model._replace(output=output))


def _remember_equally(learner: Incremental, state: State, features, labels, task: Task, key: Array) -> State:
    """Exemplars of new classes, as many as old ones have; a fixed total has not shrunk the lists yet."""
    old = int(np.sum(task.seen & ~task.new))
    return fits.remember(learner, state, features, labels, task, key, sharing=old)


IMPRINT = Fit("imprinting", fits.task_rows, _imprint)
BALANCED_EXEMPLARS = Fit("exemplars", fits.task_rows, _remember_equally)


@functools.partial(jax.jit, static_argnums=(2, 3, 4))  # one program for all tasks
def centres_of_classes(
    features: Array, labels: Array, num_classes: int, size: int, count: int, key: Array | None
) -> Array:
    """Centres [C, K, D] that k-means finds among the rows of each class; Lloyd's rounds until nothing changes.

    Args:
      features: [R, D].
      labels: int32 [R]; -1 marks padding.
      num_classes: C; a class without rows has centres of zero.
      size: bound on the rows of one class.
      count: K; of a class with fewer rows some are repeated.
      key: draws the rows that it starts from; None: the first rows.
    """
    rows = rows_by_class(labels, num_classes, size)
    real = rows < labels.shape[0]

    def of_class(rows: Array, real: Array, draw: Array) -> Array:
        points = features.at[rows].get(mode="fill", fill_value=0)
        order = jnp.argsort(jnp.where(real, draw, jnp.inf))
        start = points[order[jnp.arange(count) % jnp.maximum(real.sum(), 1)]]

        def nearest(centres: Array) -> Array:
            squares = jnp.square(points[:, None] - centres[None]).sum(-1)
            return jnp.where(real, squares.argmin(1), count)

        def moved(carry):
            centres, owners, _, rounds = carry
            member = owners[:, None] == jnp.arange(count)[None]
            number = member.sum(0)[:, None]
            means = member.T.astype(points.dtype) @ points / jnp.maximum(number, 1).astype(points.dtype)
            centres = jnp.where(number > 0, means, centres)
            after = nearest(centres)
            return centres, after, (after != owners).any(), rounds + 1

        begun = start, nearest(start), jnp.bool_(True), jnp.int32(0)
        return jax.lax.while_loop(lambda carry: carry[2] & (carry[3] < MOST_ROUNDS), moved, begun)[0]

    draws = jnp.broadcast_to(jnp.arange(size, dtype=features.dtype), rows.shape)
    if key is not None:
        draws = jax.random.uniform(key, rows.shape, features.dtype)
    centres = jax.lax.map(lambda of_one: of_class(*of_one), (rows, real, draws))
    return jnp.where(real.any(1)[:, None, None], centres, 0)


def podnet(
    setup: Setup,
    *,
    preset: Literal["cnn", "nme", "pycil"] = "nme",
    flat: Array | float = 1.0,
    spatial: Array | float | None = None,
    proxies: int = 10,
    pooling: str = "spatial",
    balanced_epochs: int = 20,
    balanced_learning_rate: Array | float | None = None,
) -> Incremental:
    """PODNet, with 20 exemplars per class. Give it the network of its authors, resnet32_podnet.

    Args:
      setup: of the run.
      preset: see above.
      flat: weight of the features' distillation; 1 for CIFAR-100 and 10 for ImageNet in the paper.
      spatial: weight of POD, 8 for ImageNet in the paper; none: the preset's, 3 for cnn and 5 for the others.
      proxies: of each class.
      pooling: of POD.
      balanced_epochs: passes over the exemplars of the second training.
      balanced_learning_rate: of it; none: the preset's, 0.005 on a cosine for pycil and 0.05 for the others.

    Raises:
      InputError: an unknown preset or pooling, or a number out of its range.
    """
    if preset not in PRESETS:
        raise unknown_name("preset of podnet", preset, PRESETS)
    if pooling not in POOLINGS:
        raise unknown_name("pooling of podnet", pooling, POOLINGS)
    check_size("proxies of podnet", proxies)
    check_size("balanced_epochs of podnet", balanced_epochs)
    check_positive("flat of podnet", flat, zero=True)
    for name, value in (("spatial", spatial), ("balanced_learning_rate", balanced_learning_rate)):
        if value is not None:
            check_positive(f"{name} of podnet", value, zero=True)
    port = preset == "pycil"
    method = PODNet(
        flat=flat,
        spatial=(3.0 if preset == "cnn" else 5.0) if spatial is None else spatial,
        scaling=None if port else 1.0 if preset == "cnn" else 3.0,
        proxies=proxies,
        pooling=pooling,
        learned_scale=preset != "nme",
        imprinted=not port,
        whole=port,
    )
    made = learner(setup, method, PUBLISHED, Exemplars(per_class=20, rule="pycil" if port else "icarl"))
    later = made.recipes["later"]
    rate = (0.005 if port else 0.05) if balanced_learning_rate is None else balanced_learning_rate
    optimizer = sgd(rate, later.optimizer.weight_decay, schedule="cosine" if port else "constant")
    recipes = {
        "first": made.recipes["first"],
        "later": later,
        "balanced": Recipe(optimizer, epochs=balanced_epochs, batch_size=later.batch_size),
    }
    if not port:
        held = {"clamp": CLAMP}
        recipes = {name: recipe.replace(**held) for name, recipe in recipes.items()}  # type: ignore[attr-defined]
        recipes["later"] = recipes["later"].replace(delay=1 if later.epochs else 0)
    return made.replace(recipes=recipes)  # pyright: ignore[reportAttributeAccessIssue]
