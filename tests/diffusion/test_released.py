"""The described models do the work of the released ones."""

import jax
import jax.numpy as jnp
import pytest

from jaxcil.diffusion.released import RELEASED, abstract
from jaxcil.parallel.pods import flops

pytestmark = pytest.mark.slow


def test_stable_diffusion_2_1_takes_what_torch_counts_at_the_size_it_was_trained_for():
    model = abstract(RELEASED["sd21"])
    network, parameters = model.unet, model.parameters["unet"]
    latents, text = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((1, 96, 96, 4), (1, 77, 1024)))
    counted = flops(
        lambda parameters, x, text: network.apply({"params": parameters}, x, 0.0, text),
        parameters,
        latents,
        text,
    )
    assert counted == pytest.approx(2.149e12, abs=5e8)  # half a unit of torch's last digit
