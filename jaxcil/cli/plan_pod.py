"""jaxcil plan-pod --config=FILE --config.model=MODEL --topology=v5e:4x8 [--workdir=DIR]

Reports what `jaxcil generate` with the same config takes on a TPU pod: memory and work per chip, collectives, the
largest batch that fits, and the hours. Needs the extra "tpu" and no TPU; the real compiler takes minutes for a
full-size model. MODEL is a folder, or sd15 or sd21, which need no weights.

    --images=1000000   images to draw
    --utilization=0.4  fraction of the chips' peak that is reached
    --compiles=2       maximum number of compilations; 1 does not look for the largest batch, 3 compiles it too
    --workdir=DIR      writes the figures to DIR/plan_pod.json
"""

import os
from typing import Any

from jaxcil.cli.arguments import parse
from jaxcil.workdir import files
from jaxcil.workdir.record import undone_if_refused
from jaxcil.workdir.settings import as_dict, resolve

# Read when jax and libtpu are loaded. No TPU is looked for, here or on the network; several may plan at once; libtpu
# would complain if it did not find the last two, which change nothing.
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
}


def main(arguments: list[str]) -> None:
    """Compiles, prints the figures and writes them."""
    os.environ.update(ENVIRONMENT)
    from jaxcil.synthesis.drawing.settings import GenerateSettings, PodSettings, defaults

    assumed = as_dict(PodSettings())
    config, others = parse(arguments, defaults(), topology=None, workdir=str, **assumed)
    settings = resolve(GenerateSettings, config)
    assumptions = resolve(PodSettings, {name: others[name] for name in assumed})
    with undone_if_refused(others["workdir"] or "."):
        workdir = files.writable_directory(others["workdir"]) if others["workdir"] else None
        figures = _planned(settings, others["topology"], assumptions)
    if workdir:
        files.write_json(workdir / "plan_pod.json", {"model": settings.model, **figures})


def _planned(settings: Any, topology: str, assumptions: Any) -> dict[str, Any]:
    from jaxcil.synthesis.drawing import plans, pod_plan

    model = pod_plan.abstract_model(settings.model)
    if settings.plan:
        plan, _ = plans.read_plan(settings.plan)
    else:
        plan = plans.er_sde_plan(model, settings.order, settings.nfe)
    figures = pod_plan.plan_pod(model, plan, topology, settings.batch_size, assumptions)
    print(pod_plan.report(figures))
    return figures
