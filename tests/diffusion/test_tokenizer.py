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
def test_ids_of_every_stored_pipeline_are_those_of_transformers(full_golden, tmp_path):
    # Stable Diffusion 2 pads with a token of its own
    folders = [path.parent for path in sorted(full_golden.glob("stable_diffusion/*/golden.npz"))]
    for folder in folders:
        with np.load(folder / "golden.npz") as stored:
            check_against(folder / "tokenizer", stored, tmp_path / folder.name)
    assert folders


@pytest.mark.parametrize("pad", ["<|endoftext|>", "!"], ids=["sd1", "sd2"])
@pytest.mark.parametrize("form", ["tokenizer.json", "vocab.json"])
def test_ids_of_random_prompts_are_those_of_transformers(pad, form, tmp_path):
    transformers = pytest.importorskip("transformers")
    shutil.copytree(SD1, tmp_path, dirs_exist_ok=True)
    special = json.loads((tmp_path / "special_tokens_map.json").read_text()) | {"pad_token": pad}
    (tmp_path / "special_tokens_map.json").write_text(json.dumps(special))
    if form == "vocab.json":
        (tmp_path / "tokenizer.json").unlink()
    prompts = odd_prompts(1000, np.random.default_rng(0))
    theirs = transformers.CLIPTokenizer.from_pretrained(tmp_path)
    expected = theirs(prompts, padding="max_length", max_length=77, truncation=True).input_ids
    ids = encode(read_tokenizer(tmp_path), prompts)
    wrong = [prompt for prompt, one, two in zip(prompts, ids, expected) if list(one) != two]
    assert wrong == []
    assert {len(set(row)) > 3 for row in expected} == {True, False}  # some prompts are next to nothing


def odd_prompts(count, generator):
    """Prompts of words and of characters from everywhere in Unicode, some empty and some far too long."""
    words = [
        "a",
        "photo",
        "of",
        "the",
        "cat",
        "DON'T",
        "it's",
        "we've",
        "I'd",
        "they'll",
        "she's",
        "'s",
        "''",
        "3.14",
        "1234",
        "<|endoftext|>",
        "<|startoftext|>",
        "!",
    ]
    blocks = {
        "latin": range(0x20, 0x250),
        "control": [*range(0x20), *range(0x7F, 0xA0), 0x200B, 0x200E, 0x2028, 0x3000, 0xFEFF],
        "combining": range(0x300, 0x370),
        "cyrillic and greek": range(0x370, 0x530),
        "right to left and indic": range(0x590, 0xA00),
        "hangul": [*range(0x1100, 0x1200), *range(0xAC00, 0xAD00)],
        "kana and han": [*range(0x3040, 0x3100), *range(0x4E00, 0x4F00), *range(0xFF00, 0xFFEF)],
        "numbers and signs": [*range(0x2000, 0x2BFF)],
        "emoji, joiners, skins, flags": [*range(0x1F300, 0x1F700), *range(0x1F1E6, 0x1F200), 0x200D, 0xFE0F],
        "beyond": [*range(0x1D400, 0x1D500), 0xE0001, 0x10FFFF, 0xFFFD],
    }
    letters = [list(block) for block in blocks.values()]
    prompts = []
    for _ in range(count):
        pieces = []
        for _ in range(generator.choice([0, 1, 3, 8, 40])):
            if generator.random() < 0.4:
                pieces.append(words[generator.integers(len(words))])
            else:
                block = letters[generator.integers(len(letters))]
                pieces.append(
                    "".join(chr(code) for code in generator.choice(block, generator.integers(1, 9)))
                )
        prompts.append(["", " ", "\n"][generator.integers(3)].join(pieces))
    return prompts


def test_a_prompt_that_is_too_long_is_cut_with_a_warning_that_says_which_and_shows_what_is_lost():
    tokenizer = read_tokenizer(SD1)
    prompt = " ".join(["photo"] * 75 + ["and a dog"])
    with pytest.warns(UserWarning, match="prompt 1 .* last 4, 'and a dog', are lost"):
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


@pytest.mark.parametrize("prompt", ["a \ud83d cat", None, 7], ids=["half a character", "none", "number"])
def test_what_is_no_text_is_refused_with_its_place(prompt):
    with pytest.raises(InputError, match="prompt 1 must be text"):
        read_tokenizer(SD1).encode(["a cat", prompt])


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (
            {"tokenizer.json": None, "vocab.json": None, "merges.txt": None},
            r"no vocab\.json and no merges\.txt",
        ),
        ({"tokenizer.json": None, "merges.txt": None}, r"there is no merges\.txt"),
        ({"tokenizer.json": "{"}, "tokenizer in .* cannot be read"),
        ({"tokenizer.json": None, "vocab.json": "{"}, r"vocab\.json cannot be read"),
        ({"tokenizer.json": None, "vocab.json": "[1]"}, r"vocab\.json must hold a JSON object"),
        (
            {"tokenizer.json": None, "merges.txt": "a b c\n"},
            r"merges\.txt must be a pair of tokens, got 'a b c'",
        ),
        ({"tokenizer.json": None, "merges.txt": "no pe\n"}, "tokenizer in .* cannot be read"),
        ({"tokenizer_config.json": '{"model_max_length": "long"}'}, "model_max_length .* got 'long'"),
        ({"special_tokens_map.json": "null"}, r"special_tokens_map\.json must hold a JSON object"),
        ({"special_tokens_map.json": '{"pad_token": "<pad>"}'}, "'<pad>'"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_tokenizer_that_is_not_whole_is_named(tmp_path, broken, message):
    shutil.copytree(SD1, tmp_path, dirs_exist_ok=True)
    for name, text in broken.items():
        if text is None:
            (tmp_path / name).unlink()
        else:
            (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        read_tokenizer(tmp_path)
