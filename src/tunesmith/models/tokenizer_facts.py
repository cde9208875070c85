"""What data preparation needs to know of a tokenizer; torch and transformers are not imported."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.dist.runtime import cache_dir

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, slots=True)
class TokenizerFacts:
    """A tokenizer as data preparation sees it; the names are those of transformers.

    ``folder`` is the one in the cache that holds its ``tokenizer.json``, ``digest`` the SHA-256 of
    what it does.
    """

    folder: str
    digest: str
    chat_template: str | Mapping[str, str] | None
    special_tokens_map: Mapping[str, str]
    bos_token_id: int | None
    eos_token_id: int | None
    eos_token: str | None


def facts_of(tokenizer: PreTrainedTokenizerFast) -> TokenizerFacts:
    """The facts of a tokenizer, which is kept in the cache."""
    folder, digest = keep_tokenizer(tokenizer)
    return TokenizerFacts(
        folder=str(folder),
        digest=digest,
        chat_template=tokenizer.chat_template,
        special_tokens_map={
            name: str(text)
            for name, text in tokenizer.special_tokens_map.items()
            if isinstance(text, str)
        },
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        eos_token=tokenizer.eos_token,
    )


def keep_tokenizer(tokenizer: PreTrainedTokenizerFast) -> tuple[Path, str]:
    """The folder in the cache that holds this tokenizer, and the hash of what it does."""
    return keep(tokenizer.backend_tokenizer)


def keep(tokenizer: Tokenizer) -> tuple[Path, str]:
    """The same for one of the tokenizers library."""
    digest = hashlib.sha256(tokenizer.to_str().encode()).hexdigest()
    folder = cache_dir() / "tokenizers" / digest[:32]
    if not (folder / "tokenizer.json").exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".partial-"))
        tokenizer.save(str(partial / "tokenizer.json"))
        try:
            partial.rename(folder)
        except OSError:  # another process was faster with the same bytes
            shutil.rmtree(partial)
    return folder, digest
