"""`kill -9` in the middle of a run, then the same command: the programs that users run, in processes of their own."""

import os
import signal
import subprocess
import sys
import time

import pytest

FIELDS = (
    *(
        "seeds=0",
        "variants=future_proof",
        "heads=ncm,fecam",
        "training.steps=20",
        "training.checkpoint_every=5",
    ),
    *(
        "training.batch_size=16",
        "synthetic.images_per_class=10",
        "synthetic.nfe=4",
        "synthetic.batch_size=10",
    ),
    "synthetic.shard_size=10",
)
FROZEN = (
    "synthetic/synthetic-train.array_record-00001.json",  # generation: two shards of ten are complete
    "extractors/future_proof/1/SHA256SUMS",  # training: one chunk of four is kept
    "heads/future_proof-ncm.json",  # heads: one of two is done
)
LEARNER = ("learners=icarl,", "variants=plain,sddr", "later_training.steps=10", "memory.per_class=2")
# States of the third task: in its training, after it, so that exemplars are being chosen, and in the next training
KEPT = tuple(f"learners/sddr-icarl/states/{number}/SHA256SUMS" for number in (4, 6, 7))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "stages"),
    [(("learners=frozen,",), FROZEN), (LEARNER, KEPT)],
    ids=["frozen", "icarl"],
)
def test_a_run_killed_at_three_stages_ends_in_the_same_results(changes, stages, tmp_path):
    environment = {name: value for name, value in os.environ.items() if name not in ("XLA_FLAGS", "NPROC")}

    def command(workdir):
        fields = [f"--config.{field}" for field in (*FIELDS, *changes, f"data_dir={tmp_path / 'tfds'}")]
        return [
            sys.executable,
            "-m",
            "jaxcil",
            "run",
            "--config=quickstart",
            f"--workdir={tmp_path / workdir}",
            *fields,
        ]

    subprocess.run(command("whole"), env=environment, check=True, capture_output=True)
    for stage in stages:
        process = subprocess.Popen(
            command("killed"), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while not (tmp_path / "killed" / stage).exists():
            assert process.poll() is None, f"the run ended before {stage}"
            time.sleep(0.005)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert not (tmp_path / "killed" / "results.json").exists()
    subprocess.run(command("killed"), env=environment, check=True, capture_output=True)
    results = [(tmp_path / workdir / "results.json").read_bytes() for workdir in ("whole", "killed")]
    assert results[0] == results[1]
