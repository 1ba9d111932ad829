"""jaxcil train-generator --config=FILE [--config.field=value] --workdir=DIR

Trains a small Stable Diffusion on labelled images and writes it to DIR/pipeline, in diffusers' layout. Given again,
it goes on where it was.
"""

import contextlib
import pathlib

from jaxcil import files
from jaxcil.cli.main import parse
from jaxcil.workdir import Timing, remember_config


def main(arguments: list[str]) -> None:
    """Trains and prints where the pipeline is."""
    config, others = parse(arguments, workdir=None)
    workdir = files.writable_directory(others["workdir"])
    remember_config(config, workdir)
    from jaxcil.data import datasets
    from jaxcil.diffusion import pipeline
    from jaxcil.diffusion.train import train_pipeline
    from jaxcil.progress import Progress
    from jaxcil.training.checkpoint import Checkpoints
    from jaxcil.training.loop import Report

    data = datasets.load(config.dataset, config.split, data_dir=config.data_dir)
    settings = config.to_dict()
    bars: dict[str, Progress] = {}
    with contextlib.ExitStack() as stack:

        def tell(name: str, told: Report) -> None:
            if name not in bars:
                bars[name] = stack.enter_context(Progress(name, told.total, "steps"))
            note = ", ".join(f"{metric} {value.mean():.4f}" for metric, value in told.metrics.items())
            bars[name].reach(told.done, note)

        with Timing(workdir / "timing.json").of("training"):
            parts = ("autoencoder", "autoencoder_training", "text_encoder", "unet", "denoiser_training")
            model = train_pipeline(
                data.images,
                data.labels,
                [[template.format(name) for template in config.templates] for name in data.class_names],
                tokenizer=settings["tokenizer"],
                **{part: settings[part] for part in parts},
                seed=config.seed,
                chunk=config.chunk,
                checkpoints=lambda name: Checkpoints(pathlib.Path(workdir) / "checkpoints" / name),
                tell=tell,
            )
    pipeline.save(str(workdir / "pipeline"), model, dtype=config.dtype)
    print(workdir / "pipeline")
