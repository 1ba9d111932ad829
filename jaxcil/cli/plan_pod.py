"""jaxcil plan-pod --config=FILE --config.model=MODEL --topology=v5e:4x8 [--images=N] [--share=0.4] [--compiles=2]

Says what `jaxcil generate` with the same config takes of a TPU pod: memory and work a chip, collectives, the largest
batch that fits, the hours for N images at a share of the chips' peak. Needs the extra "tpu" and no TPU; the real
compiler takes minutes for a full-size model. MODEL is a folder, or sd15 or sd21 for those without the weights.
--compiles=1 does not look for the largest batch, 3 compiles it too. --workdir=DIR gets the figures as plan_pod.json.
"""

import os
from typing import Any

from jaxcil.cli.main import parse
from jaxcil.errors import InputError
from jaxcil.workdir import files

FIELDS = ("model", "order", "calls", "plan", "batch_size")
# Read when jax and libtpu are loaded. No TPU is looked for, here or on the network; several may plan at once; the last
# two are what libtpu would complain of not finding, and change nothing.
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
}


def main(arguments: list[str]) -> None:
    """Compiles, prints the figures and writes them."""
    config, others = parse(arguments, topology=None, images="1000000", share="0.4", compiles="2", workdir="")
    missing = [name for name in FIELDS if name not in config]
    if missing:
        raise InputError(f"this is no config of `jaxcil generate`: it has no {', '.join(missing)}")
    numbers = {"images": int, "share": float, "compiles": int}
    settings = {name: _number(name, others[name], kind) for name, kind in numbers.items()}
    workdir = files.writable_directory(others["workdir"]) if others["workdir"] else None
    os.environ.update(ENVIRONMENT)
    from jaxcil.synthesis.drawing import models, plan_file, pod_plan

    model = pod_plan.abstract_model(config.model)
    if config.plan:
        plan, _ = plan_file.read_plan(config.plan)
    else:
        plan = models.er_sde_plan(model, config.order, config.calls)
    figures = pod_plan.plan_pod(model, plan, others["topology"], config.batch_size, **settings)
    print(pod_plan.report(figures))
    if workdir:
        files.write_json(workdir / "plan_pod.json", {"model": config.model, **figures})


def _number(name: str, text: str, kind: type) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise InputError(f"--{name} must be a number, got {text!r}") from None
