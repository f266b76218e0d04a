"""What a file says about itself: the digest in a JSON file, the seal beside a file of an unfinished
artifact. A finished artifact's other files have theirs in its manifest."""

import json
from pathlib import Path
from typing import Any

from ssd.artifacts.files import read_json, seal_of, write_json
from ssd.artifacts.fingerprints import digest, hash_content, plain
from ssd.errors import ArtifactError

DIGEST, PREFIX = "digest", "sha256:"


def write_sealed(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON object with the digest of its content, atomically."""
    stored = json.loads(json.dumps(plain(value)))  # what a reader will get: keys are strings
    write_json(path, {**stored, DIGEST: PREFIX + digest(stored)})


def read_sealed(path: Path, remedy: str) -> dict[str, Any]:
    """A JSON object without its digest; one of an earlier version, which has none, is believed.

    Raises:
        ArtifactError: the content is not what was written; says the remedy.
    """
    try:
        stored: dict[str, Any] = read_json(path)
        sealed = stored.pop(DIGEST, None)
        # A changed key is no way around the digest.
        lost = sealed is None and any(str(value).startswith(PREFIX) for value in stored.values())
        if lost or (sealed is not None and sealed != PREFIX + digest(stored)):
            raise ArtifactError(f"{path} is damaged (its content is not what was written)")
    except (ArtifactError, AttributeError, TypeError) as error:
        raise ArtifactError(
            f"{path} is damaged (its content is not what was written): {remedy}"
        ) from error
    return stored


def is_whole(path: Path) -> bool:
    """Whether a Parquet file of an unfinished artifact is as it was written; without a seal, as
    earlier versions left it, whether it can be read."""
    if seal_of(path).is_file():
        return seal_of(path).read_bytes() == hash_content(path).encode()
    import pyarrow
    import pyarrow.parquet

    try:
        pyarrow.parquet.ParquetFile(path).read()
    except (pyarrow.ArrowException, OSError):
        return False
    return True


def drop_damaged(folder: Path) -> None:
    """Delete the Parquet files of an unfinished artifact that are not as they were written, and say
    so: what they held is made again."""
    for path in sorted(folder.glob("*.parquet")):
        if not is_whole(path):
            print(f"note: {path} is damaged and deleted: what it held is made again", flush=True)
            path.unlink()
