"""jaxcil calibrate-sampler --config=FILE [--config.field=value] --workdir=DIR

Fits the noise scale of the ER-SDE solver to a model at a few calls, and measures on other noise what that brings.
Writes DIR/plan.json, for `jaxcil generate --config.plan=DIR/plan.json`, and DIR/calibration.json.
"""

import contextlib
import json

from jaxcil.cli.main import parse
from jaxcil.workdir import files
from jaxcil.workdir.record import locked


def main(arguments: list[str]) -> None:
    """Fits, prints the objective before and after, and writes the two files."""
    config, others = parse(arguments, workdir=None)
    with locked(others["workdir"]):
        _calibrate(config, others["workdir"])


def _calibrate(config, workdir: str) -> None:
    from jaxcil.evaluation.samplers import calibration  # here, so that a mistyped flag is told at once
    from jaxcil.synthesis.dataset.manifest import package_versions
    from jaxcil.synthesis.drawing.generate import fingerprint
    from jaxcil.synthesis.drawing.models import load_model
    from jaxcil.synthesis.drawing.plan_file import write_plan
    from jaxcil.workdir.progress import Progress

    given = config.to_dict()
    solver = calibration.Solver(*(given[name] for name in calibration.Solver._fields))
    settings = calibration.Settings(*(given[name] for name in calibration.Settings._fields))
    calibration.check(solver, settings)  # before a large model is read
    model = load_model(config.model)
    bars: dict[str, Progress] = {}
    with contextlib.ExitStack() as stack:

        def tell(stage: str, done: int, total: int, note: str) -> None:
            if stage not in bars:
                bars[stage] = stack.enter_context(Progress(stage, total, "batches"))
            bars[stage].reach(done, note)

        fit = calibration.calibrate_sampler(
            model, config.class_names, config.templates, solver, given["parameters"], settings, tell
        )
    results = {"parameters": fit.parameters, **fit.figures}
    circumstances = {"config": json.loads(config.to_json()), "versions": package_versions()}
    files.write_json(
        f"{workdir}/calibration.json", {"schema": 1, **results, "losses": fit.losses, **circumstances}
    )
    made_by = {"solver": "er_sde", **solver._asdict(), "parameters": fit.parameters}
    made_by |= {
        "model": config.model,
        "model_sha256": fingerprint(model),
        "guidance_scale": config.guidance_scale,
    }
    write_plan(f"{workdir}/plan.json", fit.plan, made_by | {"versions": circumstances["versions"]})
    print(json.dumps(results, indent=2))
    print(calibration.verdict(fit.figures["held_out"]))
    print(f"{workdir}/plan.json")
