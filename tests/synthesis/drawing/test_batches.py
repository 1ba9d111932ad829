"""Prompts are encoded once."""

import pathlib

import jax
import numpy as np

import jaxcil.diffusion as sd
from jaxcil.benchmarks import drawing
from jaxcil.synthesis.drawing import batches
from jaxcil.synthesis.drawing.batches import PromptEmbeddings


def watched(calls):
    def encode(ids):
        calls.append(ids)
        return ids[:, :, None] * np.float32([1, 10])

    return encode


def test_each_prompt_is_encoded_once_and_its_states_stand_where_it_does():
    calls = []
    states = PromptEmbeddings(watched(calls))
    ids = np.array([[1, 2], [3, 4], [1, 2], [5, 6]], np.int32)
    for rows in (ids, ids[::-1], ids[:1]):
        np.testing.assert_array_equal(states.of(rows), rows[:, :, None] * np.float32([1, 10]))
    assert len(calls) == 1


def test_the_encoder_always_sees_equally_many_prompts():
    calls = []
    states = PromptEmbeddings(watched(calls))
    states.of(np.arange(22, dtype=np.int32).reshape(11, 2))
    states.of(np.array([[90, 91]], np.int32))
    assert [call.shape for call in calls] == [(batches.PROMPTS, 2)] * 3


def test_the_prompts_asked_for_last_are_kept(monkeypatch):
    monkeypatch.setattr(batches, "KEPT", 2)
    calls = []
    states = PromptEmbeddings(watched(calls))
    one, two, three = np.arange(6, dtype=np.int32).reshape(3, 1, 2)
    for ids in (one, two, one, three, one):
        states.of(ids)
    assert len(calls) == 3
    states.of(two)
    assert len(calls) == 4


def test_a_state_does_not_depend_on_the_prompts_beside_it():
    # Bit for bit: a run that goes on encodes other prompts together than one that was not interrupted.
    model = sd.load(pathlib.Path(__file__).parents[2] / "golden/stable_diffusion/sd1")
    encode = jax.jit(sd.encode_text)
    ids = model.tokenize([f"a photo of {n} cats" for n in range(11)])
    together = PromptEmbeddings(lambda rows: encode(model, rows)).of(ids)
    apart = PromptEmbeddings(lambda rows: encode(model, rows))
    for row in (7, 0, 10, 3):
        np.testing.assert_array_equal(apart.of(ids[row : row + 1])[0], together[row])


def test_the_benchmark_times_a_call_of_that_many_prompts():
    # It runs where Pillow is absent, and cannot import the number.
    assert drawing.PROMPTS == batches.PROMPTS
