"""Models on a mesh: what is placed where, and what runs there."""

import functools
import pathlib
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxcil.diffusion as sd
from jaxcil import solvers
from jaxcil.diffusion import placement
from jaxcil.errors import InputError
from jaxcil.parallel import mesh

pytestmark = pytest.mark.slow

SD1 = pathlib.Path(__file__).parents[1] / "golden/stable_diffusion/sd1"
COLLECTIVES = ("all-reduce", "all-gather", "all-to-all", "collective-permute", "reduce-scatter")


@pytest.fixture(scope="module")
def model():
    return sd.load(SD1)


@pytest.fixture(scope="module")
def on():
    return mesh.generation_mesh(jax.devices()[:4])


def abstract(model, dtype):
    parameters = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, dtype), model.parameters)
    networks = {part: getattr(model, part).clone(dtype=jnp.dtype(dtype)) for part in parameters}
    return model.replace(parameters=parameters, **networks)


def implementations(model):
    return {getattr(model, part).implementation for part in model.parameters}


def test_every_device_holds_the_whole_model(model, on):
    placed = sd.place(model, on)
    assert implementations(placed) == {"xla"}
    leaves = jax.tree.leaves(placed.parameters)
    assert all(leaf.sharding.is_fully_replicated and len(leaf.devices()) == 4 for leaf in leaves)
    assert jax.tree.all(jax.tree.map(np.array_equal, placed.parameters, model.parameters))
    assert sd.place(placed, on).unet == placed.unet  # so that nothing compiles again


@pytest.mark.parametrize(
    ("platform", "capability", "dtype", "expected"),
    [
        ("cpu", None, jnp.bfloat16, "xla"),
        ("gpu", "9.0", jnp.float32, "xla"),
        ("gpu", "8.0", jnp.bfloat16, "cudnn"),
        ("gpu", "12.0", jnp.float16, "cudnn"),
        ("gpu", "7.5", jnp.float16, "xla"),  # Turing
        ("gpu", "gfx942", jnp.bfloat16, "xla"),  # AMD, where the attribute is another or absent
        ("gpu", None, jnp.bfloat16, "xla"),
        ("tpu", None, jnp.float32, "flash"),
        ("tpu", None, jnp.bfloat16, "flash"),
    ],
)
def test_the_device_and_the_dtype_choose_the_attention(
    model, on, monkeypatch, platform, capability, dtype, expected
):
    device = types.SimpleNamespace(platform=platform)
    if capability is not None:
        device.compute_capability = capability
    real = {name: getattr(mesh, name) for name in ("platform", "compute_capability")}
    devices = types.SimpleNamespace(devices=np.array([device]))  # a mesh of JAX holds real ones alone
    for name, function in real.items():
        monkeypatch.setattr(placement.mesh, name, lambda _, function=function: function(devices))
    assert implementations(sd.place(abstract(model, dtype), on)) == {expected}


def test_an_abstract_model_is_placed_without_arrays_and_compiles(model, on):
    placed = sd.place(abstract(model, jnp.bfloat16), on)
    shapes = jax.tree.leaves(placed.parameters)
    assert {(type(leaf), leaf.dtype, leaf.sharding) for leaf in shapes} == {
        (jax.ShapeDtypeStruct, jnp.dtype(jnp.bfloat16), mesh.everywhere(on))
    }
    latents = jax.ShapeDtypeStruct((4, 2, 2, 4), jnp.float32, sharding=mesh.per_image(on))
    compiled = jax.jit(sd.decode_latents).lower(placed, latents).compile()
    assert compiled.output_shardings.is_equivalent_to(mesh.per_image(on), 4)


def test_decoding_in_slices_sends_nothing_and_changes_nothing(model, on):
    placed = sd.place(model, on)
    latents = mesh.shard_batch(on, jax.random.normal(jax.random.key(0), (16, 4, 6, 4)))

    def decode(most):
        return jax.jit(lambda model, latents: sd.decode_latents(model, latents, most))

    program = decode(2).lower(placed, latents).compile()
    text = program.as_text()
    assert "while" in text  # the loop over the slices
    assert not [name for name in COLLECTIVES if name in text]
    sliced = program(placed, latents)
    assert sliced.sharding.is_equivalent_to(mesh.per_image(on), 4)
    whole = decode(4)(placed, latents)
    # Smaller batches add up in another order: float32 rounding, in [-1, 1]
    np.testing.assert_allclose(sliced, whole, atol=1e-5)


def test_large_images_are_sliced_and_small_ones_are_not(model):
    def loops(side):
        latents = jax.ShapeDtypeStruct((32, side, side, 4), jnp.float32)
        return "while" in jax.jit(sd.decode_latents).lower(model, latents).as_text()

    assert not loops(64)  # 32 images of 256 x 256 are 8 of 512 x 512
    assert loops(128)


def test_a_slice_without_a_static_size_is_refused(model):
    with pytest.raises(InputError, match="at least 1 image"):
        jax.eval_shape(functools.partial(sd.decode_latents, model), jnp.zeros((4, 2, 2, 4)), jnp.int32(2))


def test_a_slice_may_have_a_size_of_numpy(model):
    images = jax.eval_shape(lambda x: sd.decode_latents(model, x, np.int64(1)), jnp.zeros((4, 2, 2, 4)))
    assert images.shape == (4, 2 * model.vae.factor, 2 * model.vae.factor, 3)


def test_drawing_on_a_mesh_with_every_option_sends_nothing(model, on):
    placed = sd.place(model, on)
    plan = solvers.er_sde(solvers.scheduler_grid(model.scheduler_config, 2, final="zero"))
    text, negative = jnp.zeros((8, 77, 32)), jnp.zeros((1, 77, 32))

    def draw(model, plan, negative, text, keys, scale):
        return sd.draw_images(
            model,
            plan,
            text,
            keys,
            negative=negative,
            size=16,
            guidance_scale=scale,
            conditions=sd.Conditions(decode_slice=1),
        )

    batch = mesh.shard_batch(on, (text, jax.random.split(jax.random.key(0), 8), jnp.full(8, 2.0)))
    fixed = mesh.place((plan, negative), mesh.everywhere(on))
    text = jax.jit(draw).lower(placed, *fixed, *batch).compile().as_text()
    assert not [name for name in COLLECTIVES if name in text]
