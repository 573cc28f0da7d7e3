"""The text tokenizer: byte-level BPE of the `tokenizers` library, learnt from the dataset's training texts or taken over."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers.models import BPE

from unif2ace_data.errors import UserError

FILE = "tokenizer.json"


class TextTokenizer:
    """Text to ids and back. `size`: ids are 0 .. size - 1."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.size = tokenizer.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(ids))).strip()

    def save(self, folder: Path) -> None:
        """The file appears whole or not at all."""
        partial = folder / f".{FILE}.partial"
        self._tokenizer.save(str(partial))
        partial.replace(folder / FILE)


def learn_tokenizer(texts: Iterable[str], size: int) -> TextTokenizer:
    """Byte-level BPE as GPT-2 has it, of at most `size` ids: the 256 bytes first, so that every text can be written."""
    if size < 300:
        raise UserError(f"text.tokenizer train:{size}: at least 300 ids (256 of them are the bytes)", 2)
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(sorted(texts), trainer)  # sorted: ties between merges fall the same way
    return TextTokenizer(tokenizer)


def load_tokenizer(where: str) -> TextTokenizer:
    """From a folder with tokenizer.json, or by Hub name where it lies in the local cache. Nothing is downloaded."""
    file = Path(where).expanduser() / FILE
    if not file.is_file() and "/" in where and not Path(where).expanduser().exists():
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(where, FILE)
        file = Path(cached) if isinstance(cached, str) else file
    if not file.is_file():
        raise UserError(
            f"no text tokenizer {where!r}: give a folder with {FILE}, a model of the Hub that is in the local cache "
            f"(`hf download {where} {FILE}`), or train:SIZE to learn one from the dataset",
            2,
        )
    try:
        return TextTokenizer(Tokenizer.from_file(str(file)))
    except Exception as error:  # the library raises bare Exceptions
        raise UserError(f"{file} is no tokenizer of the `tokenizers` library ({error})") from None
