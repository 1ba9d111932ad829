"""jaxcil train-generator --config=FILE [--config.field=value] --workdir=DIR

Trains a small Stable Diffusion on labelled images and writes it to DIR/pipeline, in diffusers' layout. Run again, the
command resumes.
"""

import contextlib
from typing import Any

from jaxcil.cli.arguments import parse
from jaxcil.errors import InputError
from jaxcil.workdir.record import Timing, locked, pin_config, pin_data
from jaxcil.workdir.settings import as_dict, resolve


def main(arguments: list[str]) -> None:
    """Trains and prints where the pipeline is."""
    config, others = parse(arguments, "jaxcil.diffusion.settings:defaults", workdir=None)
    from jaxcil.diffusion.settings import (
        GeneratorSettings,
    )  # here, so that a mistyped flag is refused at once

    settings = resolve(GeneratorSettings, config)
    for part in ("autoencoder_training", "denoiser_training"):
        training = getattr(settings, part)
        if training.warmup_steps >= training.steps:
            raise InputError(f"{part}.warmup_steps must be less than steps, got {training.warmup_steps}")
    with locked(others["workdir"]):
        _train(settings, others["workdir"])


def _train(settings: Any, workdir: str) -> None:
    from jaxcil.data import datasets  # here, so that a mistyped flag is reported at once
    from jaxcil.diffusion import folder
    from jaxcil.diffusion.train import train_pipeline
    from jaxcil.synthesis.dataset import prompts
    from jaxcil.training.checkpoint import Checkpoints
    from jaxcil.training.loop import Report
    from jaxcil.workdir.progress import Progress

    prompts.check_templates(settings.templates)
    data = datasets.load(settings.dataset, settings.split, data_dir=settings.data_dir)
    pin_config(as_dict(settings), workdir)
    pin_data(workdir, images=data[:2])
    texts = [
        [prompts.prompt(settings.templates, name, n) for n in range(len(settings.templates))]
        for name in data.class_names
    ]
    bars: dict[str, Progress] = {}
    with contextlib.ExitStack() as stack, Timing(f"{workdir}/timing.json").of("training"):

        def notify(name: str, report: Report) -> None:
            if name not in bars:
                bars[name] = stack.enter_context(
                    Progress(name, report.total, "step", scalars=f"{workdir}/tensorboard")
                )
            bars[name].reach(report.done, report.note, report.means)

        model = train_pipeline(
            data.images,
            data.labels,
            texts,
            settings=settings,
            checkpoints=lambda name: Checkpoints(f"{workdir}/checkpoints/{name}"),
            notify=notify,
        )
    folder.save(f"{workdir}/pipeline", model, dtype=settings.dtype)
    print(f"{workdir}/pipeline")
