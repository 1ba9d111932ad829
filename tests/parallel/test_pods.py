"""Compiling ahead for TPU pods: what libtpu says, where it is installed, and what needs no compiler."""

import importlib.util
import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest

from jaxcil.cli.plan_pod import ENVIRONMENT
from jaxcil.errors import InputError
from jaxcil.parallel import mesh, pods

# Programs whose arguments are known to the byte, one with a collective and one too large, on two kinds of chip.
PROGRAM = """
import json
import jax
import jax.numpy as jnp
from jaxcil.parallel import mesh, pods

told = {}
for topology in ("v5e:2x2", "v6e:1x1"):
    chip, on = pods.pod(topology)
    chips = mesh.data_devices(on)

    def rows(megabytes):
        return pods.abstract(jax.ShapeDtypeStruct((megabytes * chips, 2**18), jnp.float32), mesh.per_image(on))

    own = pods.compile_ahead(lambda x, unread: 2 * x, rows(64), rows(32))
    summed = pods.compile_ahead(lambda x: x.sum(), rows(64))
    try:
        pods.compile_ahead(lambda x: 2 * x, rows(64 * 1024))
    except pods.OutOfMemory as error:
        told[topology] = [chips, chip.memory, own._asdict(), summed._asdict(), str(error)]
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def told():
    """What the compiler says of PROGRAM, in a process of its own: libtpu is read once, at the start."""
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip('libtpu is not installed (the extra "tpu")')
    environment = os.environ | ENVIRONMENT | {"XLA_FLAGS": ""}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_bytes_are_those_of_one_chip_what_is_not_read_included(told):
    for chips, _, own, _, _ in told.values():
        assert chips in (1, 4)
        assert own["arguments"] == (64 + 32) * 2**20
        assert own["output"] == 64 * 2**20
        assert own["collectives"] == {}


def test_a_sum_over_the_batch_shows_as_a_collective_where_there_are_several_chips(told):
    assert sum(told["v5e:2x2"][3]["collectives"].values()) >= 1
    assert told["v6e:1x1"][3]["collectives"] == {}


def test_the_memory_of_a_chip_is_what_the_compiler_names(told):
    for _, memory, *_, message in told.values():
        assert f"{memory / 2**30:.2f}G" in message


def test_the_text_of_a_program_shows_each_collective_once_a_use():
    on = mesh.generation_mesh(jax.devices()[:4])

    def exchange(x):
        x = jax.lax.ppermute(jax.lax.ppermute(x, "data", [(0, 1)]), "data", [(1, 2)])
        return jax.lax.all_gather(jax.lax.psum(x, "data"), "data")

    mapped = jax.shard_map(
        exchange, mesh=on, in_specs=jax.P("data"), out_specs=jax.P("data"), check_vma=False
    )
    text = jax.jit(mapped).lower(jnp.ones((4, 2))).compile().as_text()
    alone = jax.jit(jnp.sin).lower(jnp.ones(4)).compile().as_text()
    assert text is not None
    assert alone is not None
    assert pods.collectives(text) == {"collective-permute": 2, "all-reduce": 1, "all-gather": 1}
    assert pods.collectives(alone) == {}


def test_asynchronous_collectives_count_when_they_start():
    text = """
      %start = (f32[2]{0}, f32[8]{0}) all-gather-start(%x), dimensions={0}
      %done = f32[8]{0} all-gather-done(%start), metadata={op_name="all-gather"}
    """
    assert pods.collectives(text) == {"all-gather": 1}


def test_the_largest_batch_fills_the_memory_of_a_program_that_grows_by_the_image():
    def memory(batch):
        return 1000 + 70 * batch

    largest = pods.largest_batch({8: memory(8), 4: memory(4)}, 5000)
    assert memory(largest) <= 5000 < memory(largest + 1)


def test_images_too_small_to_weigh_leave_the_largest_batch_at_what_was_compiled():
    assert pods.largest_batch({2: 90, 4: 90}, 1000) == 4


@pytest.mark.parametrize(
    ("topology", "expected"),
    [
        ("v5:4x4", "no kind of TPU 'v5'; there are: v5e, v5p, v6e."),
        ("v5e:4x9", "no topology 'v5e:4x9'; there are: v5e:1x1, v5e:2x2"),
        ("v5p:4x4", "there are: v5p:2x2x1, v5p:2x2x2"),
        ("v5e", "no topology 'v5e'; there are: v5e:1x1"),
        ("", "no kind of TPU ''; there are: v5e, v5p, v6e."),
    ],
)
def test_an_unknown_pod_is_refused_with_those_known(topology, expected):
    with pytest.raises(InputError) as refused:
        pods.pod(topology)
    assert expected in str(refused.value)


def test_without_libtpu_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'pip install "jaxcil\[tpu\]"'):
        pods.pod("v5e:2x2")
