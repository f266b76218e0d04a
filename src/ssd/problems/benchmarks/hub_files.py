"""Files of the hub's data sets, fetched where they are not on this machine."""

import os
from pathlib import Path

from ssd.errors import DataError, one_line


def fetch(repository: str, name: str, remedy: str, revision: str | None = None) -> Path:
    """A file of a data set.

    Args:
        remedy: the setting that takes the file from this disk instead.
        revision: branch, tag or commit; the default branch where None.

    Raises:
        DataError: it cannot be fetched.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RevisionNotFoundError,
    )

    cached = try_to_load_from_cache(repository, name, revision=revision, repo_type="dataset")
    if isinstance(cached, str | os.PathLike):
        return Path(cached)
    print(f"fetching {name} of {repository} from the hub", flush=True)
    by_hand = f"download {name} from the data set {repository} and set {remedy}"
    try:
        return Path(hf_hub_download(repository, name, revision=revision, repo_type="dataset"))
    except RevisionNotFoundError as error:
        setting = f"{remedy.partition('=')[0]}_revision"
        raise DataError(f"{setting}={revision} does not exist in {repository}") from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise DataError(
            f"{name} of {repository} is not on this machine and the hub cannot be reached: "
            f"connect and run again, or {by_hand}"
        ) from error
    except EntryNotFoundError as error:
        raise DataError(f"{repository} has no {name} at that revision: {by_hand}") from error
    except (OSError, HfHubHTTPError) as error:
        raise DataError(
            f"{name} of {repository} cannot be fetched ({one_line(error)[:160]}): "
            f"run again to resume, or {by_hand}"
        ) from error
