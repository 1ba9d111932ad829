"""What a `Follower` of test_trajectories.py does besides for learners with several networks: DER and FOSTER."""

import jax
import jax.numpy as jnp
import numpy as np
import trajectory

from jaxcil.learners import der, foster
from jaxcil.losses.balance import class_balanced_weights


class Branched:
    """Tensors of branches, and the points of such files."""

    after_phase0 = ()  # trainings after which that point is

    def started(self, model, start):
        """The recorded weights are the first branch's."""
        stats = {**model.batch_stats, "newest": start["batch_stats"]}
        return model._replace(network=start["params"], batch_stats=stats)

    def compare_before(self, task, trained):
        """Points are compared as soon as a training ends."""

    def after_training(self, phase, task, state):
        """A fit that follows may draw weights."""
        if phase.name in self.after_phase0:
            self.compare_point(task, "after_phase0")

    def branch(self, name, model):
        """A tensor of a branch by its name, convnets.N.rest."""
        _, place, rest = name.split(".", 2)
        older = model.batch_stats["older"][: self.branches - 1]
        if int(place) < len(older):
            return trajectory.leaf_of(older[int(place)], rest)
        return trajectory.leaf_of({"params": model.network, "batch_stats": model.batch_stats["newest"]}, rest)

    @property
    def seen(self):
        return int((np.asarray(self.state.task_of_class) >= 0).sum())

    def classifier(self, leaf, rows, branches):
        """Weights or bias of an output layer."""
        return rows["bias"][: self.seen] if leaf == "bias" else rows["weights"][: self.seen, : 64 * branches]

    def put_rows(self, **rows):
        """Other rows of the model's output layer."""
        output = self.state.model.output
        output = {**output, "rows": {**output["rows"], **rows}}
        self.state = self.state._replace(model=self.state.model._replace(output=output))

    def blocks(self, features, count):
        """Features of the branches that there are; the others' are zero."""
        features = np.asarray(features)
        assert not features[:, 64 * count :].any()
        return features[:, : 64 * count]

    def drawn(self, task, number, count, width, rows):
        """Rows [C, N D] with a recorded draw in the first rows and columns."""
        draw = self.recorded.head(task, number, (count, width))
        return jnp.zeros_like(rows).at[:count, :width].set(draw)


class DERFollower(Branched):
    """Of both forms."""

    after_phase0 = ("training",)

    @property
    def official(self):
        return self.recorded.name.startswith("der_official")

    def after_fit(self, phase, number):
        """Recorded draws in place of our own."""
        self.branches, first, last = number + 1, *self.recorded.starts[number : number + 2]
        output = self.state.model.output
        weights, shared = output["rows"]["weights"], output["shared"]
        # the number of the draw of the output layer
        draws = {"new classes": 0, "fresh output layers": 2, "balanced images": 4}
        if phase.name in draws:
            fresh = self.drawn(number, draws[phase.name], last, 64 * self.branches, weights)
            if not self.official:
                fresh = fresh.at[:first, : 64 * number].set(weights[:first, : 64 * number])
            self.put_rows(weights=fresh)
        if phase.name in ("new classes", "fresh output layers"):
            draw = self.recorded.head(number, draws[phase.name] + 1, (last - first + 1, 64))
            auxiliary = jnp.zeros_like(output["rows"]["auxiliary"]).at[first:last].set(draw[1:])
            self.put_rows(auxiliary=auxiliary)
            model = self.state.model
            output = {**model.output, "shared": {**shared, "old": draw[:1]}}
            self.state = self.state._replace(model=model._replace(output=output))
        arrays = self.recorded.arrays
        if phase.name == "balanced images":
            rows = arrays[f"t{number}/finetune_rows"]
            labels, balanced = self.recorded.labels[rows], np.asarray(self.state.own["balanced"]).copy()
            assert sorted(self.recorded.labels[balanced[balanced >= 0]]) == sorted(labels)
            for label in np.unique(labels):
                balanced[label][balanced[label] >= 0] = rows[labels == label]
            own = {**self.state.own, "balanced": jnp.asarray(balanced)}
            self.state = self.state._replace(own=own)
        if phase.name == "alignment":
            after = arrays[f"t{number}/fc_weight_after_align0"]
            self.differences.compare(f"t{number}/aligned", weights[:last, : after.shape[1]], after)

    def after_training(self, phase, task, state):
        """Also the weights before their alignment."""
        if f"t{task.index}/fc_weight_before_align0" in self.recorded.arrays:
            before = self.recorded.arrays[f"t{task.index}/fc_weight_before_align0"]
            ours = self.state.model.output["rows"]["weights"][: self.seen, : before.shape[1]]
            self.differences.compare(f"t{task.index}/before_alignment", ours, before)
        super().after_training(phase, task, state)

    def span(self, phase, task, number):
        """The warm-up is the beginning of the recorded phase."""
        del number
        rows = self.recorded.arrays[f"t{task.index}/phase0/batch_rows"]
        epochs, warm = self.recorded.hyper("epochs"), self.recorded.hyper("warmup_epochs", 0)
        warm = len(rows) * warm // epochs
        if phase.name == "head":
            return 1, 0, len(self.recorded.arrays[f"t{task.index}/phase1/batch_rows"])
        return (0, 0, warm) if phase.name == "warm-up" else (0, warm, len(rows))

    def tensor(self, name, model):
        """A parameter by its torch name."""
        if name.startswith("convnets."):
            return self.branch(name, model)
        layer, leaf = name.rsplit(".", 1)
        rows, shared = model.output["rows"], model.output["shared"]
        if layer in ("fc", "classifier"):
            return self.classifier(leaf, rows, self.branches)
        first, last = self.recorded.starts[self.branches - 1 : self.branches + 1]
        if leaf == "bias":
            return jnp.concatenate([shared["old_bias"], rows["auxiliary_bias"][first:last]])
        return jnp.concatenate([shared["old"], rows["auxiliary"][first:last]])

    def compare_others(self, task, place, features):
        """The auxiliary output layer's logits."""
        if f"{place}/test_aux_logits" in self.recorded.arrays:
            newest = features[:, 64 * task.index : 64 * self.branches]
            logits = der.auxiliary_logits(self.state.model.output, newest)
            first, last = self.recorded.starts[task.index : task.index + 2]
            ours = jnp.concatenate([logits[:, :1], logits[:, 1:][:, first:last]], axis=1)
            self.differences.compare(
                f"{place}/test_aux_logits", ours, self.recorded.arrays[f"{place}/test_aux_logits"]
            )


class FOSTERFollower(Branched):
    """With a student."""

    after_phase0 = ("boosting",)
    ignored = ("snet.fe_fc",)  # never trained or read
    old = None  # output layer of the compressed network before the task

    def blocks(self, features, count):
        """The boosted network's come first."""
        return super().blocks(features[:, :128], count)

    def after_fit(self, phase, number):
        """Recorded draws in place of our own."""
        self.branches, first, last = min(number + 1, 2), *self.recorded.starts[number : number + 2]
        rows = self.state.model.output["rows"]
        if phase.name == "new classes":
            fresh = self.drawn(number, 0, last, 64 * self.branches, rows["weights"])
            if number:
                self.old = self.state.own["student"].output
                fresh = fresh.at[:first, :64].set(rows["weights"][:first, :64])
            self.put_rows(weights=fresh, newest=self.drawn(number, 1, last, 64, rows["newest"]))
        if phase.name == "student" and number:
            student = self.state.own["student"]
            weights = student.output["rows"]["weights"]
            fresh = self.drawn(number, 2, last, 64, weights).at[:first].set(weights[:first])
            rows = {**student.output["rows"], "weights": fresh}
            student = student._replace(output={"rows": rows, "shared": {}})
            self.state = self.state._replace(own={**self.state.own, "student": student})

    def tensor(self, name, model):
        """A parameter by its torch name; NaN where ours has none."""
        if name.startswith("snet."):
            trains = not model.batch_stats["older"] and self.branches > 1
            return self.of_student(name.removeprefix("snet."), model if trains else self.state.own["student"])
        if not model.batch_stats["older"] and self.branches > 1:
            model = self.state.model  # which keeps still in the compression
        if name.startswith("convnets."):
            return self.branch(name, model)
        layer, leaf = name.split(".")
        if layer == "oldfc":
            rows, number = self.old["rows"], self.recorded.starts[int(np.max(self.state.task_of_class))]
            return rows["bias"][:number] if leaf == "bias" else rows["weights"][:number, :64]
        rows = model.output["rows"]
        if layer == "fe_fc":
            return rows["newest_bias" if leaf == "bias" else "newest"][: self.seen]
        return self.classifier(leaf, rows, self.branches)

    def of_student(self, name, student):
        """A parameter of the student."""
        layer, leaf = name.rsplit(".", 1)
        if layer == "fe_fc":
            return np.full(1, np.nan)
        if layer == "fc":
            return self.classifier(leaf, student.output["rows"], 1)
        stats = student.batch_stats["newest"]
        return trajectory.leaf_of({"params": student.network, "batch_stats": stats}, name.split(".", 2)[2])

    def after_training(self, phase, task, state):
        """Also the class weights."""
        for kind in ("boosting", "compression"):
            if phase.name == kind:
                there = self.recorded.arrays[f"t{task.index}/per_cls_weights_{kind}"]
                beta = getattr(self.learner.method, f"beta_{kind}")
                ours = class_balanced_weights(state.own["counts"], beta)[: self.seen]
                self.differences.compare(f"t{task.index}/per_cls_weights_{kind}", ours, there)
        super().after_training(phase, task, state)

    def compare_others(self, task, place, features):
        """The newest branch's logits, the old network's, and the student."""
        arrays, compare = self.recorded.arrays, self.differences.compare
        boosted, student = jnp.split(features, 2, axis=1)
        newest = boosted[:, 64 * (self.branches - 1) : 64 * self.branches]
        logits = foster.newest_logits(self.state.model.output, newest)[:, : self.seen]
        for name, ours in (
            ("test_fe_logits", logits),
            ("test_old_logits", self.old and self.learner.method.logits(self.old, boosted, ())),
        ):
            if f"{place}/{name}" in arrays:
                there = arrays[f"{place}/{name}"]
                compare(f"{place}/{name}", ours[:, : there.shape[1]], there)
        if f"{place}/student/test_logits" in arrays:
            there = arrays[f"{place}/student/test_features"]
            compare(f"{place}/student/test_features", self.blocks(student, 1), there)
            readings = self.learner.readings(self.state, features)
            ours = readings["student_cnn"][:, : self.seen]
            compare(f"{place}/student/test_logits", ours, arrays[f"{place}/student/test_logits"])
        # the student's means, from its features of the exemplars: recorded nowhere
        memory = np.asarray(self.state.memory[: self.seen])
        rows = jax.jit(self.learner.features)(self.state, self.recorded.train[np.maximum(memory, 0).ravel()])
        rows = np.asarray(rows)[:, 128:192].reshape(*memory.shape, 64)
        if place.endswith("/end"):
            units = rows / (np.linalg.norm(rows, axis=-1, keepdims=True) + 1e-8) * (memory >= 0)[..., None]
            means = units.sum(1) / (memory >= 0).sum(1)[:, None]
            means /= np.linalg.norm(means, axis=-1, keepdims=True)
            compare(f"{place}/student_means", self.state.own["means"][: self.seen, :64], means)
