"""Learns a tokenizer in the form of CLIP's from a few prompts (Sennrich et al., arXiv:1508.07909)."""

import json
from collections.abc import Iterable

import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, trainers

from jaxcil.diffusion.tokenizer import PATTERN, Tokenizer, bpe_text

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
END_OF_WORD = "</w>"


def learn_tokenizer(prompts: Iterable[str], merges: int, length: int) -> Tokenizer:
    """A tokenizer whose merges are learned from prompts; like Stable Diffusion 1's it pads with its last token.

    The vocabulary is CLIP's in small: 256 byte symbols, the same at the end of a word, the merges, bos, eos.

    Args:
      prompts: what to learn from; any text can be tokenised afterwards.
      merges: at most so many; fewer where the prompts give no more.
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
    learned = _merges_of(learner)[:merges]
    tokens = [*letters, *(letter + END_OF_WORD for letter in letters), *("".join(pair) for pair in learned)]
    vocabulary = {token: number for number, token in enumerate([*tokens, BOS, EOS])}
    return Tokenizer(bpe_text(vocabulary, learned, EOS), BOS, EOS, EOS, length)


def _merges_of(tokenizer: tokenizers.Tokenizer) -> list[tuple[str, str]]:
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in merges]
    return [(left, right) for left, right in pairs]


def _byte_symbols() -> list[str]:
    """The 256 printable stand-ins for bytes, in CLIP's order: those that print stand first."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = 256 - len(printable)
    return [chr(code) for code in printable] + [chr(256 + n) for n in range(others)]
