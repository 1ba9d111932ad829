"""jaxcil convert-pipeline SOURCE TARGET [--dtype=float16] [--config_folder=FOLDER] [--lora=FILE] [--lora_scale=1.0]

Makes TARGET, a folder of safetensors that every other verb takes as a model, from what only torch reads: a single
file (.safetensors or .ckpt), a folder in diffusers' format with pickles, or OWNER/MODEL on the hub. Needs the extra
"convert".

    --dtype          of the weights: float16, bfloat16 or float32
    --config_folder  for a single file: a folder in diffusers' format of such a model, in place of asking the hub
    --lora           a file of low-rank additions to be merged into the weights, times --lora_scale
"""

from absl import flags

from jaxcil.errors import InputError


def main(arguments: list[str]) -> None:
    """Converts and prints where the pipeline is."""
    values = flags.FlagValues()
    values.set_gnu_getopt()  # source and target may stand before the flags
    flags.DEFINE_string("dtype", "float16", "", flag_values=values)
    flags.DEFINE_string("config_folder", None, "", flag_values=values)
    flags.DEFINE_string("lora", None, "", flag_values=values)
    flags.DEFINE_float("lora_scale", None, "", flag_values=values)
    try:
        given = values(["jaxcil", *arguments])[1:]
    except flags.Error as error:
        raise InputError(str(error)) from None
    if len(given) != 2:
        raise InputError(f"expected a source and a target, got {' '.join(given) or 'none'}")
    if values.lora_scale is not None and values.lora is None:
        raise InputError("--lora_scale is for a LoRA; give it with --lora=FILE")
    from jaxcil.diffusion.convert import convert  # here, so that a mistyped flag is told at once

    source, target = given
    convert(
        source,
        target,
        values.dtype,
        config_folder=values.config_folder,
        lora=values.lora,
        lora_scale=1.0 if values.lora_scale is None else values.lora_scale,
    )
    print(target)
