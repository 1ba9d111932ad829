"""Sampling on several devices."""

import pathlib

import jax
import numpy as np

import jaxcil.diffusion as sd
from jaxcil import keys
from jaxcil.parallel import mesh
from jaxcil.solvers import er_sde, scheduler_grid
from jaxcil.synthesis.generate import drawing

SD1 = pathlib.Path(__file__).parents[1] / "golden/stable_diffusion/sd1"


def test_four_devices_draw_what_one_draws_without_a_collective():
    model = sd.load(SD1)
    plan = er_sde(scheduler_grid(model.scheduler_config, 3, final="zero"))
    ids = model.tokenize(["a photo of a cat", "a dog", "a fox", ""])
    image_keys = keys.image_keys(keys.root_key(0), np.arange(4), np.arange(4))
    scales = np.float32([1, 2, 2, 4])
    four, one = (
        np.asarray(
            drawing(model, plan, mesh.generation_mesh(jax.devices()[:n]), "dark")(ids, image_keys, scales)
        )
        for n in (4, 1)
    )
    # Equal noise; the networks round differently at one image a device and at four: 1e-4 in [-1, 1]
    np.testing.assert_allclose(four, one, atol=1e-4)
    on = mesh.generation_mesh(jax.devices()[:4])
    placed = mesh.place((model, plan), mesh.everywhere(on)), mesh.shard_batch(on, (ids, image_keys, scales))
    program = (
        jax.jit(lambda fixed, batch: sd.text_to_image(*fixed, *batch[:2], guidance_scale=batch[2]))
        .lower(*placed)
        .compile()
        .as_text()
    )
    assert "all-reduce" not in program
    assert "all-gather" not in program
    assert "collective-permute" not in program
