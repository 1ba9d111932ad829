"""jaxcil train-generator --config=FILE [--config.field=value] --workdir=DIR

Trains a small Stable Diffusion on labelled images and writes it to DIR/pipeline, in diffusers' layout. Given again,
it goes on where it was.
"""

import contextlib

from jaxcil.cli.main import parse
from jaxcil.errors import InputError, unknown_name
from jaxcil.workdir.record import Timing, locked, pin_config, pin_data

DTYPES = ("float16", "float32")


def main(arguments: list[str]) -> None:
    """Trains and prints where the pipeline is."""
    config, others = parse(arguments, workdir=None)
    with locked(others["workdir"]):
        _train(config, others["workdir"])


def _train(config, workdir: str) -> None:
    from jaxcil.data import datasets  # here, so that a mistyped flag is told at once
    from jaxcil.diffusion import folder
    from jaxcil.diffusion.train import train_pipeline
    from jaxcil.errors import check_counts
    from jaxcil.synthesis.dataset import prompts
    from jaxcil.training.checkpoint import Checkpoints
    from jaxcil.training.loop import Report
    from jaxcil.workdir.progress import Progress

    if config.dtype not in DTYPES:
        raise unknown_name("dtype of weights", config.dtype, DTYPES)
    for part in ("autoencoder_training", "denoiser_training"):
        check_counts(config[part], part, "steps", "batch_size")
        if not 0 <= config[part].warmup_steps < config[part].steps:
            raise InputError(f"{part}.warmup_steps must lie in [0, steps), got {config[part].warmup_steps}")
    check_counts(config, "config", "chunk")
    prompts.check_templates(config.templates)
    data = datasets.load(config.dataset, config.split, data_dir=config.data_dir)
    pin_config(config, workdir)
    pin_data(workdir, images=data[:2])
    texts = [
        [prompts.prompt(config.templates, name, n) for n in range(len(config.templates))]
        for name in data.class_names
    ]
    settings = config.to_dict()
    parts = ("tokenizer", "autoencoder", "autoencoder_training", "text_encoder", "unet", "denoiser_training")
    bars: dict[str, Progress] = {}
    with contextlib.ExitStack() as stack, Timing(f"{workdir}/timing.json").of("training"):

        def tell(name: str, told: Report) -> None:
            if name not in bars:
                bars[name] = stack.enter_context(
                    Progress(name, told.total, "step", scalars=f"{workdir}/tensorboard")
                )
            bars[name].reach(told.done, told.note, told.means)

        model = train_pipeline(
            data.images,
            data.labels,
            texts,
            **{part: settings[part] for part in parts},
            seed=config.seed,
            chunk=config.chunk,
            checkpoints=lambda name: Checkpoints(f"{workdir}/checkpoints/{name}"),
            tell=tell,
        )
    folder.save(f"{workdir}/pipeline", model, dtype=config.dtype)
    print(f"{workdir}/pipeline")
