"""jaxcil convert-pipeline SOURCE TARGET [--dtype=float16] [--config_folder=FOLDER] [--lora=FILE] [--lora_scale=1.0]

Makes TARGET, a folder of safetensors that every other verb takes as a model, from a model that only torch reads: a
single file (.safetensors or .ckpt), a folder in diffusers' format with pickles, or OWNER/MODEL on the hub. Needs the
extra "convert".

    --dtype          of the weights: float16, bfloat16 or float32
    --config_folder  for a single file: a folder in diffusers' format of such a model; without it the hub is asked
    --lora           a file of low-rank additions to be merged into the weights, times --lora_scale
"""

from jaxcil.cli.arguments import read_flags
from jaxcil.errors import InputError


def main(arguments: list[str]) -> None:
    """Converts and prints where the pipeline is."""
    flags = read_flags(
        arguments,
        {"source": "a source", "target": "a target"},
        dtype="float16",
        config_folder=str,
        lora=str,
        lora_scale=float,
    )
    if flags["lora_scale"] is None:
        flags["lora_scale"] = 1.0
    elif flags["lora"] is None:
        raise InputError("--lora_scale is for a LoRA; give it with --lora=FILE")
    from jaxcil.diffusion.convert import convert  # here, so that a mistyped flag is reported at once

    convert(**flags)
    print(flags["target"])
