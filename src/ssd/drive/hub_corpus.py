"""A corpus that somebody has published, by its hub id."""

import dataclasses
from pathlib import Path

from ssd.artifacts.names import HUB_CORPUS
from ssd.config.settings import RunConfig
from ssd.errors import DataError, one_line

SCHEME = "hub:"


def pin_corpus(config: RunConfig) -> RunConfig:
    """The configuration with the folder of a corpus in the place of `hub:OWNER/NAME` or
    `hub:OWNER/NAME@REVISION`, whose files are fetched. Nothing depends on where it lies: the corpus
    has a fingerprint of its own.

    Raises:
        DataError: the repository holds none, or the hub cannot be asked.
    """
    corpus = config.train.corpus
    if corpus is None or not corpus.startswith(SCHEME):
        return config
    repo_id, _, revision = corpus.removeprefix(SCHEME).partition("@")
    import huggingface_hub

    try:
        fetched = huggingface_hub.snapshot_download(
            repo_id, revision=revision or None, allow_patterns=[f"{HUB_CORPUS}/*"]
        )
    except Exception as error:  # the hub client's own, the HTTP library's, the system's
        raise DataError(
            f"train.corpus={corpus} cannot be fetched ({one_line(error)[:160]}): check the name, "
            "connect, log in with hf auth login where it is private, or name a folder"
        ) from error
    folder = Path(fetched) / HUB_CORPUS
    if not folder.is_dir():
        raise DataError(
            f"train.corpus={corpus} has no folder {HUB_CORPUS}: name a repository that "
            "ssd publish RUN_DIR --to hub has made"
        )
    train = dataclasses.replace(config.train, corpus=str(folder))
    return dataclasses.replace(config, train=train)
