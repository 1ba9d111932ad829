"""CLIP's tokenizer, byte-level BPE, with the `tokenizers` library alone: reading, writing, learning one."""

import functools
import json
import os
import pathlib
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from jaxcil.errors import InputError
from jaxcil.workdir import files

# What CLIP splits a normalised prompt into: special tokens, contractions, words, single digits, the rest.
PATTERN = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
END_OF_WORD = "</w>"
SPECIAL = ("bos_token", "eos_token", "unk_token", "pad_token")


@dataclass(frozen=True)
class Tokenizer:
    """Prompts to token ids. It hashes and compares by value, so that two loads make one compiled program.

    Attributes:
      text: the tokenizer as the JSON text of the `tokenizers` library.
      bos: the token before each prompt; like the next two, a string that `text` knows.
      eos: the token after each prompt.
      pad: the token that fills a row. Stable Diffusion 1 pads with eos, Stable Diffusion 2 with "!".
      length: L, of a row of ids.
    """

    text: str
    bos: str
    eos: str
    pad: str
    length: int = 77

    @property
    def size(self) -> int:
        """The largest token id plus one."""
        tokenizer = _built(self.text, (self.bos, self.eos, self.pad))
        return 1 + max(tokenizer.get_vocab(with_added_tokens=True).values())

    def encode(self, prompts: Sequence[str]) -> np.ndarray:
        """Token ids [B, L] int32 of B prompts: bos, at most L - 2 tokens, eos, padding.

        A prompt that is too long is truncated, with a warning that names it and the lost part.

        Raises:
          InputError: a prompt is not text, or contains half of a surrogate pair, which cannot be encoded.
        """
        if isinstance(prompts, str):
            raise InputError(f"expected a list of prompts, got the one string {prompts!r}. Put it in a list.")
        for number, prompt in enumerate(prompts):
            if not isinstance(prompt, str) or any("\ud800" <= letter <= "\udfff" for letter in prompt):
                raise InputError(f"prompt {number} must be text of whole characters, got {prompt!r}.")
        tokenizer = _built(self.text, (self.bos, self.eos, self.pad))
        bos, eos, pad = (tokenizer.token_to_id(token) for token in (self.bos, self.eos, self.pad))
        rows = np.full((len(prompts), self.length), pad, np.int32)
        room = self.length - 2
        encodings = tokenizer.encode_batch(list(prompts), add_special_tokens=False)
        for number, (row, prompt, encoding) in enumerate(zip(rows, prompts, encodings)):
            ids = encoding.ids[:room]
            if len(encoding.ids) > room:
                start = encoding.offsets[room][0]
                warnings.warn(
                    f"prompt {number} has {len(encoding.ids)} tokens, and {room} fit: of {prompt!r} the last "
                    f"{len(encoding.ids) - room}, {prompt[start:]!r}, are lost. Shorten the prompt.",
                    stacklevel=2,
                )
            row[: len(ids) + 2] = [bos, *ids, eos]
        return rows


def read_tokenizer(folder: str | os.PathLike) -> Tokenizer:
    """The tokenizer of a pipeline's `tokenizer` folder.

    Reads tokenizer.json, or vocab.json and merges.txt where it is absent. The special tokens are those of
    special_tokens_map.json: in folders of Stable Diffusion 2, tokenizer_config.json names a wrong pad token.

    Raises:
      InputError: names the file that is missing or invalid, or the special token without an id.
    """
    folder = pathlib.Path(folder)
    config = _json(folder / "tokenizer_config.json")
    tokens = config | _json(folder / "special_tokens_map.json")
    special = {name: _content(folder, name, tokens.get(name)) for name in SPECIAL}
    bos, eos = special["bos_token"] or BOS, special["eos_token"] or EOS
    # transformers writes "no limit" as a number of 30 digits; CLIP's text encoder has 77 positions
    length = config.get("model_max_length", 77)
    if not isinstance(length, int | float) or not length >= 3:  # NaN too
        raise InputError(
            f"model_max_length in {folder} must be a number of tokens, at least 3, got {length!r}."
        )
    length = 77 if length > 10**6 else int(length)
    try:
        text = _text(folder, special["unk_token"] or eos)
        known = _built(text, ())
    except InputError:
        raise
    except Exception as error:  # the library has no narrower class
        raise InputError(f"the tokenizer in {folder} cannot be read: {error}") from None
    tokenizer = Tokenizer(text, bos, eos, special["pad_token"] or eos, length)
    for token in (tokenizer.bos, tokenizer.eos, tokenizer.pad):
        if known.token_to_id(token) is None:
            raise InputError(
                f"the tokenizer in {folder} names the special token {token!r} but has no id for it."
            )
    return tokenizer


def write_tokenizer(folder: str | os.PathLike, tokenizer: Tokenizer) -> None:
    """Writes the `tokenizer` folder of a pipeline, for this library and for transformers, old and new."""
    model = json.loads(tokenizer.text)["model"]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    special = {
        "bos_token": tokenizer.bos,
        "eos_token": tokenizer.eos,
        "unk_token": model["unk_token"] or tokenizer.eos,
        "pad_token": tokenizer.pad,
    }
    config = special | {
        "add_prefix_space": False,
        "do_lower_case": True,
        "errors": "replace",
        "model_max_length": tokenizer.length,
        "tokenizer_class": "CLIPTokenizer",
    }
    texts = {
        "tokenizer.json": tokenizer.text,
        "vocab.json": json.dumps(model["vocab"], ensure_ascii=False),
        "merges.txt": "\n".join(["#version: 0.2", *merges, ""]),
        "special_tokens_map.json": json.dumps(special, indent=2),
        "tokenizer_config.json": json.dumps(config, indent=2),
    }
    for name, text in texts.items():
        files.write(pathlib.Path(folder) / name, text)


def bpe_text(vocabulary: dict[str, int], merges: list[tuple[str, str]], unknown: str = EOS) -> str:
    """The JSON text of a CLIP tokenizer.

    Args:
      vocabulary: id of every token: 256 byte symbols, the same with "</w>" at the end of a word, merged ones,
        special tokens.
      merges: pairs of tokens, in the order in which they are to be merged.
      unknown: the token for what the vocabulary lacks.
    """
    tokenizer = tokenizers.Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, end_of_word_suffix=END_OF_WORD, unk_token=unknown)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(tokenizers.Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(PATTERN), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer.to_str()


def learn_tokenizer(prompts: Iterable[str], merges: int, length: int) -> Tokenizer:
    """A tokenizer whose merges are learned from prompts; like Stable Diffusion 1's, it pads with its last token.

    Byte pairs are learned as in Sennrich et al., arXiv:1508.07909. The vocabulary is a small version of CLIP's: 256
    byte symbols, the same at the end of a word, the merges, bos, eos.

    Args:
      prompts: the training texts; any text can be tokenised afterwards.
      merges: maximum number; fewer if the prompts give no more.
      length: of a row of ids, bos and eos included.
    """
    learner = tokenizers.Tokenizer(models.BPE(end_of_word_suffix=END_OF_WORD))
    learner.normalizer = normalizers.Lowercase()
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(tokenizers.Regex(PATTERN), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    letters = _byte_symbols()
    trainer = trainers.BpeTrainer(
        vocab_size=2 * len(letters) + merges,
        initial_alphabet=letters,
        end_of_word_suffix=END_OF_WORD,
        show_progress=False,
    )
    learner.train_from_iterator(prompts, trainer)
    learned = _learned_merges(learner)[:merges]
    tokens = [*letters, *(letter + END_OF_WORD for letter in letters), *("".join(pair) for pair in learned)]
    vocabulary = {token: number for number, token in enumerate([*tokens, BOS, EOS])}
    return Tokenizer(bpe_text(vocabulary, learned, EOS), BOS, EOS, EOS, length)


@functools.lru_cache(maxsize=16)
def _built(text: str, special: tuple[str, ...]) -> Any:
    tokenizer = tokenizers.Tokenizer.from_str(text)
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.add_special_tokens(list(special))
    return tokenizer


def _text(folder: pathlib.Path, unknown: str) -> str:
    """The JSON text of the tokenizer in a folder, in either form."""
    if (folder / "tokenizer.json").is_file():
        return (folder / "tokenizer.json").read_text(encoding="utf-8")
    absent = [name for name in ("vocab.json", "merges.txt") if not (folder / name).is_file()]
    if absent:
        raise InputError(
            f"no tokenizer in {folder}: expected tokenizer.json, or vocab.json and merges.txt; there is no "
            f"{' and no '.join(absent)}."
        )
    return bpe_text(_json(folder / "vocab.json"), _merges(folder / "merges.txt"), unknown)


def _json(path: pathlib.Path) -> dict[str, Any]:
    """The JSON object in a tokenizer's file; an empty one if the file does not exist."""
    value = files.read_json(path) if path.is_file() else {}
    if not isinstance(value, dict):
        raise InputError(f"{path} must hold a JSON object, got a {type(value).__name__}.")
    return value


def _content(folder: pathlib.Path, name: str, token: Any) -> str | None:
    """The text of a special token, which the files hold as a string or as a dict around it."""
    content = token.get("content") if isinstance(token, dict) else token
    if not isinstance(content, str) and token is not None:
        raise InputError(
            f"{name} of the tokenizer in {folder} must be text, or an object whose content is text, got {token!r}."
        )
    return content


def _merges(path: pathlib.Path) -> list[tuple[str, str]]:
    lines = path.read_text(encoding="utf-8").split("\n")
    pairs = [line.split(" ") for line in lines if line and not line.startswith("#version")]
    wrong = [" ".join(pair) for pair in pairs if len(pair) != 2]
    if wrong:
        raise InputError(f"a line of {path} must be a pair of tokens, got {wrong[0]!r}.")
    return [(left, right) for left, right in pairs]


def _learned_merges(tokenizer: tokenizers.Tokenizer) -> list[tuple[str, str]]:
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
    return [(left, right) for left, right in pairs]


def _byte_symbols() -> list[str]:
    """The 256 printable characters for bytes, in CLIP's order: printable bytes first."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = 256 - len(printable)
    return [chr(code) for code in printable] + [chr(256 + n) for n in range(others)]
