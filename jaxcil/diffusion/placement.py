"""A model on the devices of a mesh, with the attention that they compute fastest."""

import dataclasses

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxcil.diffusion.model import StableDiffusion
from jaxcil.parallel import mesh

HALF = (jnp.float16, jnp.bfloat16)
CUDNN_CAPABILITY = 8.0  # required by cuDNN's fused attention: Ampere


def place(model: StableDiffusion, on: Mesh) -> StableDiffusion:
    """A model that every device of a mesh holds whole, ready for batches that are spread over the devices.

    Each network's attention is chosen by its dtype and the devices: cuDNN for float16 and bfloat16 on NVIDIA GPUs from
    Ampere on, the flash kernel on a TPU, else XLA. Kernels take only long sequences, see `attention.kernel`. On several
    devices, batches must be multiples of their number.

    The TPU kernel was compiled ahead of time with the TPU compiler and compared with XLA in Pallas' interpreter; it has
    not run on a TPU.

    Args:
      model: its parameters are arrays or, to compile ahead of time, `jax.ShapeDtypeStruct`s.
      on: from `jaxcil.parallel.mesh`. Its devices may be those of a topology description, which hold no arrays, if
        the parameters are abstract.
    """
    networks = {}
    for part in model.parameters:
        network = getattr(model, part)
        networks[part] = network.clone(implementation=_implementation(on, network.dtype), mesh=on)
    everywhere = mesh.everywhere(on)
    if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(model.parameters)):
        parameters = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=everywhere), model.parameters
        )
    else:
        parameters = mesh.place(model.parameters, everywhere)
    return dataclasses.replace(model, parameters=parameters, **networks)


def _implementation(on: Mesh, dtype: jnp.dtype) -> str:
    if mesh.platform(on) == "tpu":
        return "flash"
    return "cudnn" if mesh.compute_capability(on) >= CUDNN_CAPABILITY and dtype in HALF else "xla"
