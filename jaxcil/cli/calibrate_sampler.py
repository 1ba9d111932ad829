"""jaxcil calibrate-sampler --config=FILE [--config.field=value] --workdir=DIR

Fits the noise scale of the ER-SDE solver to a model at a few calls, and measures on other noise whether that helps.
Writes DIR/plan.json, for `jaxcil generate --config.plan=DIR/plan.json`, and DIR/calibration.json.
"""

import contextlib
import json

from jaxcil.cli.arguments import parse
from jaxcil.workdir import files
from jaxcil.workdir.record import locked


def main(arguments: list[str]) -> None:
    """Fits, prints the objective before and after, and writes the two files."""
    config, others = parse(
        arguments, "jaxcil.evaluation.samplers.settings:calibration_defaults", workdir=None
    )
    from jaxcil.evaluation.samplers import calibration  # not before the flags are checked
    from jaxcil.evaluation.samplers.settings import calibration_settings
    from jaxcil.synthesis.dataset.manifest import package_versions
    from jaxcil.synthesis.drawing.generate import fingerprint
    from jaxcil.synthesis.drawing.models import load_model
    from jaxcil.synthesis.drawing.plans import write_plan
    from jaxcil.workdir.progress import Progress
    from jaxcil.workdir.settings import as_dict

    settings, workdir = calibration_settings(config), others["workdir"]
    with locked(workdir):
        model = load_model(settings.model)
        bars: dict[str, Progress] = {}
        with contextlib.ExitStack() as stack:

            def notify(stage: str, done: int, total: int, note: str) -> None:
                if stage not in bars:
                    bars[stage] = stack.enter_context(Progress(stage, total, "batches"))
                bars[stage].reach(done, note)

            fit = calibration.calibrate_sampler(model, settings, notify)
        results = {"parameters": fit.parameters, **fit.figures}
        config, versions = as_dict(settings), package_versions()
        record = {"schema": 2, **results, "losses": fit.losses, "config": config, "versions": versions}
        files.write_json(f"{workdir}/calibration.json", record)
        fields = ("family", "nfe", "order", "derivative", "start", "model", "guidance_scale")
        made_by = {
            "solver": "er_sde",
            **{name: config[name] for name in fields},
            "parameters": fit.parameters,
        }
        made_by |= {"model_sha256": fingerprint(model), "versions": versions}
        write_plan(f"{workdir}/plan.json", fit.plan, made_by)
        print(json.dumps(results, indent=2))
        print(calibration.verdict(fit.figures["held_out"]))
        print(f"{workdir}/plan.json")
