"""What every head must do. A new head is one line in HEADS."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxcil.errors import InputError
from jaxcil.heads import acil, ds_al, fecam, fetril, linear, ncm, ranpac, slda

CLASSES, DIM, BATCH, BOUND = 6, 8, 64, 24
TASKS = (range(0, 3), range(3, 4), range(4, 6))

HEADS = {
    "ncm cosine": ncm("cosine"),
    "ncm euclidean": ncm("euclidean"),
    "ncm unit features": ncm("euclidean", means="unit_features"),
    "fecam": fecam(images_per_class=BOUND),
    "fecam common": fecam(mode="common"),
    "fecam diagonal": fecam(mode="diagonal"),
    "fecam ncm": fecam(mode="ncm"),
    "fetril": fetril(images_per_class=BOUND),
    "fetril cosine ridge": fetril("pycil", classifier="ridge", images_per_class=BOUND),
    "fetril fc": fetril(classifier="fc", learning_rate=1e-3, batch_size=16, images_per_class=BOUND),
    "slda": slda(),
    "acil": acil(buffer_size=12),
    "ds_al": ds_al(buffer_size=12),
    "ranpac": ranpac(projection_size=12),
    "linear": linear(learning_rate=1e-3, epochs=40, batch_size=16),
    "linear cosine": linear("cosine", epochs=40, batch_size=16),
}
# What follows the rows in their order: a stream, rows held out at the end, batches drawn from them
ORDERED = ("fetril fc", "slda", "ranpac", "linear", "linear cosine")
LOGITS = {"fetril fc", "linear", "linear cosine"}  # trained by the softmax of their scores
FORGETFUL = ("linear", "linear cosine")  # trained on the rows of the latest task alone

pytestmark = pytest.mark.usefixtures("strict_dtypes")


def every_head_but(*names):
    kept = {name: head for name, head in HEADS.items() if name not in names}
    return pytest.mark.parametrize("head", kept.values(), ids=kept.keys())


every_head = every_head_but()


def task_rows(task, seed=0, images=20):
    """Clustered features >= 0 of a task, its true rows first and padding of NaN behind: ([B, D], [B])."""
    rng = np.random.default_rng([seed, task])
    centres = np.random.default_rng(seed).uniform(0, 4, (CLASSES, DIM))
    sizes = rng.integers(images - 4, images + 1, len(TASKS[task]))
    labels = np.repeat(TASKS[task], sizes)
    features = np.full((BATCH, DIM), np.nan, np.float32)
    features[: len(labels)] = np.maximum(centres[labels] + rng.normal(size=(len(labels), DIM)), 0)
    return features, np.append(labels, np.full(BATCH - len(labels), -1)).astype(np.int32)


def probes():
    return np.maximum(np.random.default_rng(9).normal(2, 2, (BATCH, DIM)), 0).astype(np.float32)


# One program of each per head for the whole file
init = jax.jit(lambda head, key: head.init(CLASSES, DIM, key))
update = jax.jit(lambda head, *arguments: head.update(*arguments))
scores = jax.jit(lambda head, *arguments: head.scores(*arguments))
update_all = jax.jit(jax.vmap(lambda head, *arguments: head.update(*arguments)))
scores_all = jax.jit(jax.vmap(lambda head, *arguments: head.scores(*arguments), in_axes=(0, 0, None)))


def task_key(task, seed=0):
    return jax.random.fold_in(jax.random.key(seed), task)


def learn(head, tasks, seed=0, transform=lambda features, labels: (features, labels), dtype=jnp.float32):
    state = init(head, jax.random.key(seed))
    for task in tasks:
        features, labels = transform(*task_rows(task, seed))
        state = update(head, state, jnp.asarray(features, dtype), jnp.asarray(labels), task_key(task, seed))
    return state


@every_head
def test_later_tasks_run_the_programs_of_the_first(head):
    state = init(head, jax.random.key(0))
    programs = []
    for task in range(3):
        features, labels = task_rows(task)
        state = update(head, state, jnp.asarray(features), jnp.asarray(labels), task_key(task))
        scores(head, state, jnp.asarray(probes()))
        programs.append((update._cache_size(), scores._cache_size()))
    assert len(set(programs)) == 1


@every_head
def test_after_each_task_seen_classes_have_finite_scores_and_unseen_ones_are_never_predicted(head):
    for last in range(3):
        found = np.asarray(scores(head, learn(head, range(last + 1)), jnp.asarray(probes())))
        seen = TASKS[last].stop
        assert np.isfinite(found[:, :seen]).all()
        assert (found[:, seen:] == -np.inf).all()


def test_scores_are_logits_where_a_softmax_was_trained_and_nowhere_else():
    assert {name for name, head in HEADS.items() if head.scores_are_logits} == LOGITS


@every_head_but(*FORGETFUL)
def test_well_separated_classes_are_told_apart(head):
    state = learn(head, range(3), transform=lambda features, labels: (5 * features, labels))
    hits = []
    for features, labels in (task_rows(task) for task in range(3)):
        predictions = np.asarray(scores(head, state, jnp.asarray(5 * features))).argmax(axis=1)
        hits.extend((predictions == labels)[labels >= 0])
    assert np.mean(hits) > 0.8  # one guess in six is right by chance


@every_head
def test_padding_rows_are_ignored_wherever_they_stand(head):
    def spread(features, labels):
        places = np.sort(np.random.default_rng(4).permutation(BATCH)[: (labels >= 0).sum()])
        there, owners = np.full_like(features, 1e9), np.full_like(labels, -1)
        there[places], owners[places] = features[labels >= 0], labels[labels >= 0]
        return there, owners

    padded, exact = learn(head, range(1)), learn(head, range(1), transform=spread)
    same_scores(head, padded, exact)
    # A later task whose rows are all padding
    nothing = jnp.full((BATCH, DIM), jnp.nan, jnp.float32), jnp.full(BATCH, -1, jnp.int32), jax.random.key(1)
    jax.tree.map(np.testing.assert_array_equal, update(head, padded, *nothing), padded)


@every_head_but(*ORDERED)
def test_the_order_of_the_rows_does_not_matter(head):
    order = np.random.default_rng(3).permutation(BATCH)
    shuffled = learn(head, range(3), transform=lambda features, labels: (features[order], labels[order]))
    same_scores(head, shuffled, learn(head, range(3)))


def same_scores(head, state, other):
    # Sums in another order; an SVM's decisions carry the condition number of its Hessian, up to 1e3 here
    np.testing.assert_allclose(
        scores(head, state, jnp.asarray(probes())),
        scores(head, other, jnp.asarray(probes())),
        rtol=1e-4,
        atol=1e-4,
    )


SEEDS = 3


@functools.cache
def side_by_side(name):
    """Three seeds of a head, then two values of each hyperparameter in turn, all in one program.

    Returns the scores of the seeds after three tasks, the swept leaves, a row for each value, and the scores of these
    rows after the second task. Only it is learned with swept leaves: in the first a common covariance is not shrunk.
    """
    head = HEADS[name]
    leaves, structure = jax.tree.flatten(head)
    values = [
        [*leaves[:place], value, *leaves[place + 1 :]] for place in range(len(leaves)) for value in (0.3, 0.8)
    ]
    seeds = [*range(SEEDS), *(0 for _ in values)]

    def heads(rows):
        return jax.tree.unflatten(structure, [np.array(column, np.float32) for column in zip(*rows)])

    states = jax.tree.map(
        lambda *parts: np.stack(parts), *(init(head, jax.random.key(seed)) for seed in seeds)
    )
    scored = []
    for task in range(len(TASKS)):
        features, labels = (np.stack(part) for part in zip(*(task_rows(task, seed) for seed in seeds)))
        keys = jnp.stack([task_key(task, seed) for seed in seeds])
        rows = heads([leaves] * SEEDS + (values if task == 1 else [leaves] * len(values)))
        states = update_all(rows, states, jnp.asarray(features), jnp.asarray(labels), keys)
        scored.append(np.asarray(scores_all(rows, states, jnp.asarray(probes()))))
    return scored[2][:SEEDS], values, scored[1][SEEDS:]


@pytest.mark.parametrize("name", HEADS)
def test_seeds_may_be_an_axis_of_vmap(name):
    together, _, _ = side_by_side(name)
    for seed in range(SEEDS):
        alone = scores(HEADS[name], learn(HEADS[name], range(3), seed), jnp.asarray(probes()))
        np.testing.assert_allclose(together[seed], alone, rtol=1e-4, atol=1e-4)  # as in `same_scores`


@pytest.mark.parametrize("name", [name for name, head in HEADS.items() if jax.tree.leaves(head)])
def test_each_continuous_hyperparameter_may_be_swept_by_vmap(name):
    head = HEADS[name]
    _, values, together = side_by_side(name)
    first, task = learn(head, range(1)), [jnp.asarray(part) for part in task_rows(1)]
    for leaves, row in zip(values, together, strict=True):
        swept = jax.tree.unflatten(jax.tree.structure(head), leaves)
        alone = scores(swept, update(swept, first, *task, task_key(1)), jnp.asarray(probes()))
        # As in `same_scores`; at such learning rates scores reach hundreds
        largest = np.abs(alone, where=np.isfinite(alone), out=np.ones(alone.shape)).max()
        np.testing.assert_allclose(row, alone, rtol=1e-4, atol=1e-4 * largest)
    for place, (path, _) in enumerate(jax.tree_util.tree_leaves_with_path(head)):
        label = jax.tree_util.keystr(path)
        assert not np.allclose(together[2 * place], together[2 * place + 1], rtol=1e-3), label


@every_head
def test_equal_input_gives_equal_bits(head):
    jax.tree.map(np.testing.assert_array_equal, learn(head, range(3)), learn(head, range(3)))


@every_head
def test_the_state_keeps_its_shapes_and_float32(head):
    first = init(head, jax.random.key(0))
    state = learn(head, range(3))
    assert jax.tree.map(jax.typeof, state) == jax.tree.map(jax.typeof, first)
    assert scores(head, state, jnp.asarray(probes())).dtype == jnp.float32


@every_head
@pytest.mark.usefixtures("x64")
def test_a_float64_process_works_in_float64(head):
    task, state = task_rows(0), init(head, jax.random.key(0))
    features, labels = jnp.asarray(task[0], jnp.float64), jnp.asarray(task[1])
    after = jax.eval_shape(head.update, state, features, labels, jax.random.key(0))
    assert jax.tree.map(lambda x: x.dtype, after) == jax.tree.map(lambda x: x.dtype, state)
    assert {x.dtype for x in jax.tree.leaves(after)} == {jnp.dtype("float64"), jnp.dtype("int32")}
    assert jax.eval_shape(head.scores, after, features).dtype == jnp.float64


@every_head
def test_a_state_taken_to_the_host_and_back_goes_on_to_the_same_bits(head):
    halfway = jax.tree.map(lambda x: jnp.asarray(np.asarray(x)), learn(head, range(2)))
    features, labels = (jnp.asarray(part) for part in task_rows(2))
    resumed = update(head, halfway, features, labels, task_key(2))
    jax.tree.map(np.testing.assert_array_equal, resumed, learn(head, range(3)))


@every_head
def test_update_and_scores_lower_for_every_platform(head):
    platforms = ["cpu", "cuda", "tpu"]
    state = init(head, jax.random.key(0))
    features, labels = (jnp.asarray(part) for part in task_rows(0))
    jax.export.export(update, platforms=platforms)(head, state, features, labels, task_key(0))
    jax.export.export(scores, platforms=platforms)(head, state, features)


@every_head
def test_rows_may_be_constants_of_a_traced_function(head):
    (features, labels), others = (jnp.asarray(part) for part in task_rows(0)), jnp.asarray(probes())

    @jax.eval_shape
    def shapes():
        state = head.update(head.init(CLASSES, DIM, task_key(0)), features, labels, task_key(0))
        return head.scores(state, others)

    assert shapes.shape == (BATCH, CLASSES)


def changed(array, place, value):
    array = array.copy()
    array[place] = value
    return array


BAD_INPUT = {
    "a label past the last class": (lambda f, y: (f, changed(y, 0, CLASSES)), "to_contiguous"),
    "a label below -1": (lambda f, y: (f, changed(y, 0, -2)), "to_contiguous"),
    "NaN in a true row": (lambda f, y: (changed(f, (3, 1), np.nan), y), "row 3"),
    "features of another width": (lambda f, y: (f[:, 1:], y), f"B, {DIM}"),
    "too few labels": (lambda f, y: (f, y[1:]), "one label per row"),
}


@every_head
def test_bad_input_is_refused_before_anything_is_compiled(head):
    state = init(head, jax.random.key(0))
    for spoil, message in BAD_INPUT.values():
        with pytest.raises(InputError, match=message):
            head.update(state, *(jnp.asarray(part) for part in spoil(*task_rows(0))), jax.random.key(0))
    for features, message in ((probes()[:, 1:], f"B, {DIM}"), (probes() * np.nan, "row 0")):
        with pytest.raises(InputError, match=message):
            head.scores(state, jnp.asarray(features))
