"""The model that is checked, with what several items read of it, read once."""

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssd.config.settings import RunConfig
from ssd.errors import ModelError, one_line
from ssd.models.chat import load_tokenizer, stop_token_ids
from ssd.models.tensors import Account, account


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A checkpoint folder and the settings of the run that would use it."""

    folder: Path
    config: RunConfig
    whole: bool = True
    """Whether the weight files are here; otherwise there are only their headers."""

    @functools.cached_property
    def architecture(self) -> Any:
        """The configuration as transformers reads it."""
        from transformers import AutoConfig

        return AutoConfig.from_pretrained(self.folder)

    @functools.cached_property
    def account(self) -> Account:
        """Where its tensors go."""
        return account(self.folder)

    @functools.cached_property
    def tokenizer(self) -> Any:
        """Its tokenizer, with the chat template.

        Raises:
            ModelError: a file of the tokenizer is damaged.
        """
        try:
            return load_tokenizer(str(self.folder))
        except Exception as error:  # of any kind, as the tokenizer's class parses its files
            raise ModelError(
                f"the tokenizer cannot be loaded ({type(error).__name__}: "
                f"{one_line(error)[:160]}): copy or download its files again"
            ) from error

    @functools.cached_property
    def stops(self) -> list[int]:
        """The ids that end an answer."""
        return stop_token_ids(str(self.folder), self.tokenizer)


def some(names: list[str], shown: int = 3) -> str:
    """The first of several names, and how many more there are."""
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more:,} more" if more > 0 else "")
