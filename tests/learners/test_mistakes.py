"""Mistakes that are easily made, made on purpose: the recorded trajectories tell each of them from the method.

`pytest -s` prints the largest error of each. Those of files that are not next to the tests need JAXCIL_GOLDEN.
"""

import importlib.util
import pathlib
import sys

import flax.struct
import jax
import jax.numpy as jnp
import pytest

from jaxcil.learners.incremental import Incremental
from jaxcil.training.learner import Training

spec = importlib.util.spec_from_file_location(
    "following", pathlib.Path(__file__).with_name("test_trajectories.py")
)
following = sys.modules["following"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(following)
PATHS = {path.stem: path for path in following.FILES}

pytestmark = pytest.mark.slow


@flax.struct.dataclass
class Other(Incremental):
    """A learner with other phases."""

    change = staticmethod(lambda phases: phases)

    def phases(self, task_index):
        return type(self).change(super().phases(task_index))


@flax.struct.dataclass
class AlignedAfterTheCopy(Other):
    """The teacher is copied before the alignment."""

    @staticmethod
    def change(phases):
        align = [phase for phase in phases if phase.name == "alignment"]
        return (*(phase for phase in phases if phase.name != "alignment"), *align)


@flax.struct.dataclass
class StatisticsRestored(Other):
    """The balanced training leaves the batch statistics as they were."""

    @staticmethod
    def change(phases):
        def restored(phase):
            def end(learner, train_state, state, task):
                ended = phase.end(learner, train_state, state, task)
                model = ended.model._replace(batch_stats=state.model.batch_stats)
                return ended._replace(model=model)

            return phase._replace(end=end) if isinstance(phase, Training) and phase.balanced else phase

        return tuple(map(restored, phases))


@flax.struct.dataclass
class TeacherInTrainMode(Incremental):
    """The teacher normalises by the batch."""

    def outputs(self, model, images, own=None):
        return self.moving_outputs(model, images, own)[0]

    def features(self, state, images):
        own = Incremental.outputs(self, state.model, images, state.own)
        return self.method.embed(own.features, own.maps)


@flax.struct.dataclass
class WithoutImprinting(Other):
    """New embeddings stay as they are drawn."""

    @staticmethod
    def change(phases):
        return tuple(phase for phase in phases if phase.name != "imprinting")


def made_into(kind):
    """The same learner of another class."""

    def change(learner, monkeypatch):
        del monkeypatch
        return kind(**{name: getattr(learner, name) for name in learner.__dataclass_fields__})

    return change


def without_clamp(learner, monkeypatch):
    del monkeypatch
    recipes = {name: recipe.replace(clamp=None) for name, recipe in learner.recipes.items()}
    return learner.replace(recipes=recipes)


def still_maximum(learner, monkeypatch):
    """No derivative through the largest score."""

    def lsc(scores, labels, classes):
        masked = jnp.where(classes[None], scores, -jnp.inf)
        u = masked - jax.lax.stop_gradient(masked.max(-1, keepdims=True))
        own = jnp.arange(u.shape[1])[None] == labels[:, None]
        others = jnp.where(own | ~classes[None], 0, jnp.exp(jnp.where(classes[None], u, 0))).sum(-1)
        return -jnp.where(own, u, 0).sum(-1) + jnp.log1p(others)

    monkeypatch.setattr("jaxcil.learners.podnet.lsc", lsc)
    return learner


def usual_schedule(learner, monkeypatch):
    del monkeypatch
    recipes = {name: recipe.replace(delay=0) for name, recipe in learner.recipes.items()}
    return learner.replace(recipes=recipes)


MISTAKES = {
    "teacher in train mode": ("lucir", made_into(TeacherInTrainMode)),
    "no imprinting": ("lucir", made_into(WithoutImprinting)),
    "alignment after the copy of the teacher": ("pycil_wa", made_into(AlignedAfterTheCopy)),
    "no clamp of the gradient": ("podnet_cnn_clamp", without_clamp),
    "no derivative through the largest score": ("podnet_cnn", still_maximum),
    "the usual cosine schedule": ("podnet_cnn", usual_schedule),
    "batch statistics restored after the balanced training": ("podnet_cnn", made_into(StatisticsRestored)),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_from_the_method(mistake, x64, monkeypatch):
    name, change = MISTAKES[mistake]
    if name not in PATHS:
        pytest.skip("JAXCIL_GOLDEN does not name the folder of the full golden arrays")
    recorded = following.trajectory.Recorded(PATHS[name])
    learner = change(following.longest_of(following.MAKERS, recorded)(recorded), monkeypatch)
    follower = following.Follower(recorded, learner)
    following.compiled.cache_clear()
    monkeypatch.setattr(follower.differences, "check", lambda: None)
    try:
        follower.run()
    except AssertionError as error:  # other exemplars, so that the recorded batches are of other images
        print(f"{mistake}: other images ({str(error).splitlines()[0][:60]})")
        return
    wrong, compared = follower.differences.wrong, follower.differences.compared
    print(f"{mistake}: {len(wrong)} of {len(compared)} arrays, largest {max(wrong.values(), default=0):.1e}")
    assert max(wrong.values()) > 1e-3
