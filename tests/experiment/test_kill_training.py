"""`kill -9` in the middle of the training of a generator, then the same command, in processes of their own."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

# networks of one resolution: what is not traced in each of four processes costs nothing
FIELDS = (
    "seed=3",
    "checkpoint_every=2",
    "tokenizer.merges=8",
    "autoencoder.block_out_channels=8,",
    "autoencoder.norm_num_groups=4",
    "autoencoder_training.steps=8",
    "autoencoder_training.batch_size=8",
    "autoencoder_training.warmup_steps=1",
    "text_encoder.hidden_size=16",
    "text_encoder.layers=1",
    "unet.block_out_channels=8,",
    "unet.norm_num_groups=4",
    "denoiser_training.steps=8",
    "denoiser_training.batch_size=8",
    "denoiser_training.warmup_steps=1",
)
# one chunk of four is kept whole, in the first training and then in the second
STAGES = ("checkpoints/autoencoder/2/SHA256SUMS", "checkpoints/denoiser/2/SHA256SUMS")


@pytest.fixture
def train(tmp_path):
    environment = {name: value for name, value in os.environ.items() if name != "NPROC"} | {
        "XLA_FLAGS": "--xla_backend_optimization_level=0",  # one device; compiling takes longer than training
    }

    def start(workdir):
        fields = [f"--config.{field}" for field in (*FIELDS, f"data_dir={tmp_path / 'tfds'}")]
        command = [sys.executable, "-m", "jaxcil", "train-generator", "--config=digits_generator"]
        with (tmp_path / "said").open("w") as said:
            return subprocess.Popen(
                [*command, f"--workdir={workdir}", *fields], env=environment, stdout=said, stderr=said
            )

    return start


@pytest.mark.slow
def test_a_training_of_a_generator_killed_in_both_parts_ends_in_the_same_weights(train, tmp_path):
    assert train(tmp_path / "whole").wait() == 0, (tmp_path / "said").read_text()
    begun = set()  # first checkpoints of the first training, by their inodes
    for stage in STAGES:
        process = train(tmp_path / "killed")
        while not (tmp_path / "killed" / stage).exists():
            with contextlib.suppress(FileNotFoundError):
                begun.add((tmp_path / "killed" / STAGES[0]).stat().st_ino)
            assert process.poll() is None, (tmp_path / "said").read_text()
            time.sleep(0.002)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert not (tmp_path / "killed" / "pipeline").exists()
        if stage == STAGES[0]:
            begun.add((tmp_path / "killed" / stage).stat().st_ino)
    assert len(begun) == 1  # the second call did not begin again
    last = tmp_path / "killed/checkpoints/autoencoder/8"
    before = last.stat()
    assert train(tmp_path / "killed").wait() == 0, (tmp_path / "said").read_text()
    after = last.stat()  # and the third did not do what was done
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    contents = [
        {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
        for root in (tmp_path / "whole" / "pipeline", tmp_path / "killed" / "pipeline")
    ]
    assert any(name.endswith(".safetensors") for name in contents[0])
    assert contents[0] == contents[1]
