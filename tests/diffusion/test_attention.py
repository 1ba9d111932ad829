"""Attention by every kernel, as far as a CPU can show."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu

from jaxcil.diffusion import attention
from jaxcil.errors import InputError
from jaxcil.parallel import mesh


@pytest.fixture
def short_flash(monkeypatch):
    """The flash kernel for any length, and in Pallas' interpreter of TPUs."""
    monkeypatch.setattr(attention, "FLASH_TOKENS", 1)
    monkeypatch.setattr(attention, "_platform", lambda on: "tpu")
    with jax.default_matmul_precision("highest"), pltpu.force_tpu_interpret_mode():
        yield


def drawn(tokens, keys, features, batch=2, heads=2):
    rows = jax.random.split(jax.random.key(0), 3)
    lengths = (tokens, keys, keys)
    return [jax.random.normal(key, (batch, n, heads, features)) for key, n in zip(rows, lengths)]


@pytest.mark.parametrize(
    ("tokens", "keys", "features"),
    [(256, 256, 128), (256, 384, 40), (200, 200, 64), (130, 77, 160)],
    ids=["whole", "features", "tokens", "both"],
)
def test_padding_for_the_flash_kernel_changes_nothing(short_flash, tokens, keys, features):
    inputs = drawn(tokens, keys, features)
    flash = attention.attend(*inputs, implementation="flash")
    assert flash.shape == inputs[0].shape
    # Float32 sums of a few hundred terms in another order
    np.testing.assert_allclose(flash, attention.attend(*inputs), atol=5e-6)


def test_devices_of_a_mesh_run_the_flash_kernel_each_on_its_own_images(short_flash):
    on = mesh.generation_mesh(jax.devices()[:2])
    inputs = mesh.shard_batch(on, drawn(128, 128, 8, batch=4))
    run = jax.jit(lambda *inputs: attention.attend(*inputs, implementation="flash", on=on))
    flash = run(*inputs)
    assert flash.sharding.is_equivalent_to(mesh.per_image(on), flash.ndim)
    np.testing.assert_allclose(flash, attention.attend(*map(np.asarray, inputs)), atol=5e-6)


def test_a_batch_that_a_mesh_cannot_share_is_refused(short_flash):
    on = mesh.generation_mesh(jax.devices()[:2])
    with pytest.raises(InputError, match="batch of 3 cannot be spread over 2 devices"):
        attention.attend(*drawn(128, 128, 8, batch=3), implementation="flash", on=on)


def test_cudnn_without_a_gpu_is_refused_when_it_is_traced():
    inputs = [jax.ShapeDtypeStruct((1, 4096, 8, 40), jnp.bfloat16)] * 3
    with pytest.raises(InputError, match=r"needs an NVIDIA GPU.*computes on cpu.*place"):
        jax.eval_shape(lambda *inputs: attention.attend(*inputs, implementation="cudnn"), *inputs)


@pytest.mark.parametrize("placed", [False, True], ids=["default", "mesh"])
def test_the_flash_kernel_is_refused_for_what_is_no_tpu(placed):
    on = mesh.generation_mesh() if placed else None
    inputs = [jax.ShapeDtypeStruct((4, 4096, 8, 40), jnp.float32)] * 3
    with pytest.raises(InputError, match=r"kernel for TPUs.*run on cpu.*place"):
        jax.eval_shape(lambda *inputs: attention.attend(*inputs, implementation="flash", on=on), *inputs)


def test_the_flash_kernel_is_traced_for_a_mesh_of_tpus_by_a_process_without_one(monkeypatch):
    monkeypatch.setattr(attention.mesh, "platform", lambda on: "tpu")
    inputs = [jax.ShapeDtypeStruct((4, 4096, 8, 40), jnp.float32)] * 3
    on = mesh.generation_mesh()
    run = jax.make_jaxpr(lambda *inputs: attention.attend(*inputs, implementation="flash", on=on))
    assert "pallas_call" in str(run(*inputs))


def test_an_unknown_implementation_is_refused_with_the_nearest():
    with pytest.raises(InputError, match="Did you mean 'flash'"):
        attention.attend(*drawn(2, 2, 2), implementation="flesh")


@pytest.mark.parametrize(
    ("implementation", "query", "keys", "dtype", "expected"),
    [
        ("xla", (2, 4096, 8, 40), 4096, "bfloat16", "xla"),
        ("cudnn", (2, 4096, 8, 40), 4096, "bfloat16", "cudnn"),
        ("cudnn", (2, 4096, 8, 40), 77, "float16", "cudnn"),
        ("cudnn", (2, 1024, 8, 80), 1024, "bfloat16", "cudnn"),
        ("cudnn", (2, 256, 8, 160), 256, "bfloat16", "xla"),
        ("cudnn", (2, 4096, 1, 512), 4096, "bfloat16", "xla"),
        ("cudnn", (2, 4096, 8, 42), 4096, "bfloat16", "xla"),
        ("cudnn", (2, 4096, 8, 40), 4096, "float32", "xla"),
        ("flash", (2, 4096, 8, 40), 4096, "float32", "flash"),
        ("flash", (2, 4096, 1, 512), 4096, "bfloat16", "flash"),
        ("flash", (2, 4096, 8, 40), 77, "bfloat16", "xla"),
        ("flash", (2, 1024, 8, 80), 1024, "bfloat16", "xla"),
    ],
)
def test_a_kernel_runs_where_it_applies_and_xla_elsewhere(implementation, query, keys, dtype, expected):
    key = (query[0], keys, *query[2:])
    assert attention.kernel(implementation, query, key, dtype) == expected


def test_a_causal_attention_is_left_to_xla(short_flash):
    inputs = drawn(128, 128, 8)
    flash = attention.attend(*inputs, causal=True, implementation="flash")
    np.testing.assert_array_equal(flash, attention.attend(*inputs, causal=True))
