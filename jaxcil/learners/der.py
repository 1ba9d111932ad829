"""DER, dynamically expandable representation (Yan et al., CVPR 2021, arXiv:2103.16788): a network for each task.

A task adds a branch, which starts as a copy of the one before; older branches keep still (`learners.branches`). With f
the features of all branches, one behind the other, and f_t those of the newest,

    z = W f,   z' = W' f_t,   L = CE(z) + CE(z')                                                  (1)

z' has a column for each new class and one, the first, for all old classes together; the first task has no z'. The codes
agree in this and differ in the output layer:

    official    no biases; normal draws. W and W' are drawn anew in every task, and again after a warm-up in which the
                rate rises, while the optimiser keeps its velocity. After the training W is drawn once more and trained
                alone, on equally many images of each class, under CE(z / temperature)
    pycil       old classes keep their weights on the older branches; no warm-up. After the training the new rows of W
                are scaled to the length of the old ones, as in `learners.wa`

Neither public code has the paper's pruning ("DER w/o P"). The state has room for the branches of all tasks from the
start. Steps compute the branches that exist only, so their programs compile once per task.
"""

from typing import Any, Literal

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxcil.errors import InputError, unknown_name
from jaxcil.heads.class_statistics import check_positive
from jaxcil.learners import branches, fits, incremental, steps
from jaxcil.learners.branches import Branches
from jaxcil.learners.incremental import Classes, Incremental, Model, Outputs, Recipe, State, TrainState
from jaxcil.learners.method import Method
from jaxcil.learners.published import Published, learner
from jaxcil.learners.replay import Replay, classification
from jaxcil.learners.steps import Step
from jaxcil.learners.wa import ALIGN
from jaxcil.losses.cross_entropy import cross_entropy
from jaxcil.memory.exemplars import Exemplars
from jaxcil.training.learner import Batch, Fit, Phase, Setup, Task, whole
from jaxcil.training.optimizer import sgd

FORMS = ("official", "pycil")
PUBLISHED = Published(epochs=160, learning_rate=0.1, weight_decay=5e-4, milestones=(100, 120))
PUBLISHED_PYCIL = Published(epochs=170, learning_rate=0.1, weight_decay=2e-4, milestones=(80, 120, 150))


@flax.struct.dataclass
class DER(Method):
    """The output layers, the losses and the phases.

    Recipes of the official form, each of which may be absent: "first warm-up", in the first task; "warm-up", in later
    ones; and "head", of the last training.

    Attributes:
      temperature: of the official form's last training, > 0; None: PyCIL's form.
    """

    temperature: Array | float | None = 5.0

    epsilon = 1e-8

    @property
    def official(self) -> bool:
        """Which form it is."""
        return self.temperature is not None

    def empty(self, learner: Incremental, dim: int):
        """W [C, T D], the rows of W' that are new classes' [C, D], and its first row [1, D]; biases for PyCIL."""
        own = dim // len(learner.task_sizes)
        rows = {
            "weights": jnp.zeros((learner.columns, dim)),
            "auxiliary": jnp.zeros((learner.columns, own)),
        }
        shared = {"old": jnp.zeros((1, own))}
        if not self.official:
            rows |= {"bias": jnp.zeros(learner.columns), "auxiliary_bias": jnp.zeros(learner.columns)}
            shared |= {"old_bias": jnp.zeros(1)}
        return {"rows": rows, "shared": shared}

    def first(self, learner: Incremental, model: Model):
        """For the official form, the velocity that the warm-up leaves, and the rows of the last training [C, M]."""
        if not self.official:
            return ()
        warms_up = {"first warm-up", "warm-up"} & set(learner.recipes)
        parts = {"network": model.network, "output": model.output} if warms_up else None
        return {
            "velocity": jax.tree.map(jnp.zeros_like, parts),
            "balanced": jnp.full((learner.num_classes, incremental.room(learner)), -1, jnp.int32),
        }

    def logits(self, output, features: Array, own) -> Array:
        """z [B, C] of features [B, T D]."""
        del own
        logits = features @ output["rows"]["weights"].T
        return logits if self.official else logits + output["rows"]["bias"][None]

    def phases(self, learner: Incremental, task_index: int) -> tuple[Phase, ...]:
        """A new branch, warm-up, fresh output layers, training; alignment or the head's training; exemplars, means."""
        number, later = task_index + 1, task_index > 0
        name, loss = ("later", DER.loss) if later else ("first", Replay.loss)
        # the first task's loss has no z'
        rates = None if later else _without_auxiliary
        warm = "warm-up" if later else "first warm-up"
        warm_up = ()
        if warm in learner.recipes:
            rise = branches.training(
                learner, "warm-up", Step(loss, warm), number, rates=rates, change=_from_rest
            )
            warm_up = (rise._replace(end=_keep_velocity), FRESH)
        step = Step(loss, name)
        change = _rolling if warm_up else _from_rest
        after = ()
        if later and not self.official:
            after = (ALIGN,)
        elif later and "head" in learner.recipes and learner.exemplars is not None:
            head = Step(DER.head_loss, "head", trains=("output",), moving=False)
            after = (
                BALANCE,
                branches.training(
                    learner,
                    "head",
                    head,
                    number,
                    parts=_balanced,
                    rates=_without_auxiliary,
                    change=_from_rest,
                    balanced=True,
                ),
            )
        return (
            GROW,
            *warm_up,
            branches.training(learner, "training", step, number, rates=rates, change=change),
            *after,
            fits.EXEMPLARS,
            fits.means_over(),
        )

    def loss(
        self, new: Outputs, old: None, batch: Batch, state: TrainState
    ) -> tuple[Array, dict[str, Array]]:
        """Equation (1)."""
        del old
        own = classification(new, batch, state.classes.trained)
        auxiliary = self._auxiliary(new, batch, state)
        return own + auxiliary, {"classification": own, "auxiliary": auxiliary}

    def _auxiliary(self, new: Outputs, batch: Batch, state: TrainState) -> Array:
        """CE(z')."""
        classes, rows = state.classes, new.output["rows"]
        newest = branches.newest_features(new, state.model, rows["auxiliary"].shape[1])
        logits = auxiliary_logits(new.output, newest)
        fresh = jnp.concatenate([jnp.ones(1, bool), classes.trained & ~classes.old])
        labels = jnp.where(classes.old[batch.labels], 0, batch.labels + 1)
        losses = cross_entropy(jnp.where(fresh[None], logits, -jnp.inf), labels, fresh)
        return steps.mean(losses, batch.classify)

    def head_loss(
        self, new: Outputs, old: None, batch: Batch, state: TrainState
    ) -> tuple[Array, dict[str, Array]]:
        """CE(z / temperature)."""
        del old
        temperature: Any = self.temperature
        softened = new._replace(logits=new.logits / temperature)
        return classification(softened, batch, state.classes.trained), {}

    def drawn(self, key: Array, output, width: int):
        """Output layers of fresh rows, W's on its first `width` columns; all biases zero."""
        keys = jax.random.split(key)
        rows, shared = output["rows"], output["shared"]
        auxiliary = jnp.concatenate([shared["old"], rows["auxiliary"]])
        own = auxiliary.shape[1]
        auxiliary = branches.fresh_weights(keys[1], auxiliary, own, normal=self.official)
        weights = branches.fresh_weights(keys[0], rows["weights"], width, normal=self.official)
        rows, shared = jax.tree.map(jnp.zeros_like, (rows, shared))
        return {
            "rows": {**rows, "weights": weights, "auxiliary": auxiliary[1:]},
            "shared": {**shared, "old": auxiliary[:1]},
        }


def auxiliary_logits(output, newest: Array) -> Array:
    """z' [B, 1 + C] of the newest branch's features [B, D]."""
    rows, shared = output["rows"], output["shared"]
    logits = newest @ jnp.concatenate([shared["old"], rows["auxiliary"]]).T
    if "old_bias" not in shared:
        return logits
    return logits + jnp.concatenate([shared["old_bias"], rows["auxiliary_bias"]])[None]


def _without_auxiliary(method: DER, state: State, classes: Classes):
    """W' keeps still."""
    rates = steps.trained_rows(method, state, classes)
    rates["output"]["shared"] = incremental.everywhere(0, state.model.output["shared"])
    rows = rates["output"]["rows"]
    still = {name: jnp.zeros_like(rate) for name, rate in rows.items() if name.startswith("auxiliary")}
    rates["output"]["rows"] = {**rows, **still}
    return rates


def _from_rest(learner: Incremental, state: State, begun: TrainState, task: Task) -> TrainState:
    del learner, state, task
    return begun._replace(own=())


def _rolling(learner: Incremental, state: State, begun: TrainState, task: Task) -> TrainState:
    del learner, task
    return begun._replace(velocity=state.own["velocity"], own=())


def _keep_velocity(learner: Incremental, train_state: TrainState, state: State, task: Task) -> State:
    ended = branches.end(learner, train_state, state, task)
    return ended._replace(own={**state.own, "velocity": train_state.velocity})


def _grow(learner: Incremental, state: State, features, labels, task: Task, key: Array) -> State:
    """A copy of the newest branch is the new one; fresh rows, and for PyCIL's form columns, of the output layers."""
    del features, labels
    model, classes, method = state.model, learner.masks(task), learner.method
    if task.index:
        model = branches.grown(model, task.index - 1, branches.newest_branch(model))
    old, output = model.output["rows"], _drawn_for(learner, model.output, classes, task, key)
    if not method.official:
        width = task.index * old["auxiliary"].shape[1]
        weights = branches.grown_weights(old["weights"], output["rows"]["weights"], classes, width)
        bias = jnp.where(classes.old, old["bias"], 0)
        output = {**output, "rows": {**output["rows"], "weights": weights, "bias": bias}}
    task_of_class = jnp.where(jnp.asarray(task.new), task.index, state.task_of_class)
    return state._replace(model=model._replace(output=output), task_of_class=task_of_class)


def _drawn_for(learner: Incremental, output, classes: Classes, task: Task, key: Array):
    width = (task.index + 1) * output["rows"]["auxiliary"].shape[1]
    drawn = learner.method.drawn(key, output, width)
    rows = incremental.rows_where(classes.trained, drawn["rows"])
    auxiliary = {name: row for name, row in rows.items() if name.startswith("auxiliary")}
    auxiliary = incremental.rows_where(classes.trained & ~classes.old, auxiliary)
    return {**drawn, "rows": {**rows, **auxiliary}}


def _redraw(learner: Incremental, state: State, features, labels, task: Task, key: Array) -> State:
    del features, labels
    output = _drawn_for(learner, state.model.output, learner.masks(task), task, key)
    return state._replace(model=state.model._replace(output=output))


def _balance(learner: Incremental, state: State, features, labels, task: Task, key: Array) -> State:
    """W drawn anew, and equally many rows of each class, at random."""
    del features, labels
    keys, output = jax.random.split(key), state.model.output
    drawn = _drawn_for(learner, output, learner.masks(task), task, keys[0])
    output = {**output, "rows": {**output["rows"], "weights": drawn["rows"]["weights"]}}
    random = np.random.default_rng(np.asarray(jax.random.key_data(keys[1])).tolist())
    own, memory = whole(task.rows), np.asarray(state.memory)
    rows = {
        label: own[task.labels[own] == label] if task.new[label] else whole(memory[label])
        for label in np.flatnonzero(task.seen)
    }
    rows = {label: of_class for label, of_class in rows.items() if len(of_class)}
    balanced = np.full(state.own["balanced"].shape, -1, np.int32)
    count = min(incremental.room(learner), *map(len, rows.values()))
    for label, of_class in rows.items():
        balanced[label, :count] = random.choice(of_class, count, replace=False)
    return state._replace(
        model=state.model._replace(output=output), own={**state.own, "balanced": jnp.asarray(balanced)}
    )


def _balanced(learner: Incremental, state: State, task: Task, key: Array) -> np.ndarray:
    del learner, task, key
    return np.asarray(state.own["balanced"]).ravel()


GROW = Fit("new classes", fits.no_rows, _grow)
FRESH = Fit("fresh output layers", fits.no_rows, _redraw)
BALANCE = Fit("balanced images", fits.no_rows, _balance)


def der(
    setup: Setup,
    *,
    form: Literal["official", "pycil"] = "official",
    warmup_epochs: int = 10,
    head_epochs: int = 30,
    head_learning_rate: Array | float = 0.1,
    temperature: Array | float = 5.0,
) -> Incremental:
    """DER, with 20 exemplars per class.

    The settings describe the whole first training, a warm-up of its own included; output layers are not drawn anew in
    it. The official recipe of the head is that of the authors' experiment with ten equal tasks of CIFAR-100; their base
    configuration has 50 epochs, rate 0.05 and milestones 15 and 30.

    Args:
      setup: of the run.
      form: see above; the other arguments are the official one's.
      warmup_epochs: of later tasks, before the epochs of their recipe; 0: none.
      head_epochs: of the last training of a task; 0: none.
      head_learning_rate: of that training; a tenth of it in the second half.
      temperature: of that training, > 0.

    Raises:
      InputError: an unknown form, or a negative number of epochs.
    """
    if form not in FORMS:
        raise unknown_name("form of der", form, FORMS)
    if warmup_epochs < 0 or head_epochs < 0:
        raise InputError(f"der's epochs must not be negative, got {warmup_epochs}, {head_epochs}")
    check_positive("head_learning_rate of der", head_learning_rate)
    check_positive("temperature of der", temperature)
    official = form == "official"
    setup = setup._replace(network=Branches(setup.network, len(setup.task_sizes)))
    method = DER(temperature if official else None)
    published = PUBLISHED if official else PUBLISHED_PYCIL
    made = learner(setup, method, published, Exemplars(per_class=20, rule="icarl" if official else "pycil"))
    if not official:
        return made
    later = made.recipes["later"]
    rate, decay = later.optimizer.learning_rate, later.optimizer.weight_decay
    recipes = dict(made.recipes)
    if head_epochs:
        milestones = (head_epochs // 2,) if head_epochs > 1 else ()
        schedule = "step" if milestones else "constant"
        optimizer = sgd(head_learning_rate, decay, schedule=schedule, milestones=milestones)
        recipes["head"] = Recipe(optimizer, epochs=head_epochs, batch_size=later.batch_size)
    if warmup_epochs:
        recipes["warm-up"] = warm_up(rate, decay, warmup_epochs, later.batch_size)
    return made.replace(recipes=recipes)  # pyright: ignore[reportAttributeAccessIssue]


def warm_up(rate: Array | float, decay: Array | float, epochs: int, batch_size: int) -> Recipe:
    """The rates (e + 1) / epochs of a rate, in the epochs e from 0."""
    optimizer = sgd(rate, decay, schedule="constant", warmup_steps=epochs - 1)
    return Recipe(optimizer, epochs=epochs, batch_size=batch_size)
