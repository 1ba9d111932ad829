"""The tokenizer against ids of transformers, and its files."""

import json
import pathlib
import shutil
import warnings

import numpy as np
import pytest

from jaxcil.diffusion.tokenizer import read_tokenizer, write_tokenizer
from jaxcil.errors import InputError

SD1 = pathlib.Path(__file__).parents[1] / "golden/stable_diffusion/sd1/tokenizer"


def encode(tokenizer, prompts):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # two of the stored prompts are too long
        return tokenizer.encode(prompts)


def check_against(folder, stored, scratch):
    """The 40 stored prompts, with tokenizer.json and without, and after writing."""
    prompts = json.loads(str(stored["tok/prompts_json"]))
    assert len(prompts) == 40
    shutil.copytree(folder, scratch / "slow")
    (scratch / "slow/tokenizer.json").unlink()
    write_tokenizer(scratch / "written", read_tokenizer(folder))
    for place in (folder, scratch / "slow", scratch / "written"):
        ids = encode(read_tokenizer(place), prompts)
        assert ids.dtype == np.int32
        np.testing.assert_array_equal(ids, stored["tok/ids"])


def test_ids_are_those_of_transformers(golden, tmp_path):
    check_against(SD1, golden("stable_diffusion/sd1/golden.npz"), tmp_path)


@pytest.mark.golden
def test_ids_of_stable_diffusion_2_are_padded_with_its_own_token(full_golden, tmp_path):
    folder = full_golden / "stable_diffusion/sd2"
    with np.load(folder / "golden.npz") as stored:
        check_against(folder / "tokenizer", stored, tmp_path)


def test_a_prompt_that_is_too_long_is_cut_with_a_warning_that_shows_what_is_lost():
    tokenizer = read_tokenizer(SD1)
    prompt = " ".join(["photo"] * 75 + ["and a dog"])
    with pytest.warns(UserWarning, match="'and a dog' is lost"):
        ids = tokenizer.encode(["photo", prompt])
    assert ids.shape == (2, 77)
    assert ids[1, -1] == ids[0, 2]  # the end of the text is still marked


def test_tokenizers_read_twice_are_one_static_value(tmp_path):
    one, two = read_tokenizer(SD1), read_tokenizer(SD1)
    assert one == two
    assert hash(one) == hash(two)


def test_a_single_string_is_refused():
    with pytest.raises(InputError, match="list of prompts"):
        read_tokenizer(SD1).encode("a cat")


def test_a_folder_without_a_tokenizer_is_named(tmp_path):
    with pytest.raises(InputError, match=r"merges\.txt"):
        read_tokenizer(tmp_path)


def test_a_special_token_without_an_id_is_named(tmp_path):
    shutil.copytree(SD1, tmp_path, dirs_exist_ok=True)
    (tmp_path / "special_tokens_map.json").write_text(json.dumps({"pad_token": "<pad>"}))
    with pytest.raises(InputError, match="'<pad>'"):
        read_tokenizer(tmp_path)
