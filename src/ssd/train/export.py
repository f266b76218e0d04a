"""The tuned model as an ordinary checkpoint folder, checked by loading it again.

python -m ssd.train.export RUN_DIR --step N    again, for an earlier step that was kept
"""

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.state_dict import StateDictOptions
from torch.distributed.checkpoint.state_dict_loader import load as read_state
from transformers import GenerationConfig

from ssd.arms import BASE, TUNED
from ssd.artifacts.files import require_space
from ssd.artifacts.names import ADAPTER, CARD, MODEL, STEP_WEIGHTS
from ssd.artifacts.store import record_export
from ssd.config.choices import AdapterType
from ssd.errors import ArtifactError, ModelError
from ssd.models.chat import configured_ends
from ssd.models.names import GENERATION_CONFIG
from ssd.models.network import load, unread
from ssd.models.tensors import tensor_names
from ssd.models.weights import quantisation, weight_bytes
from ssd.run import Run, lineage, load_run, stage_parser
from ssd.run.lineage import step_folders
from ssd.run.rounds import begun_from
from ssd.runtime.progress import silence_loading_bars
from ssd.runtime.reporting import reporting_errors
from ssd.train.carried import carry_files, carry_tensors
from ssd.train.checkpoints import stored_bytes, trained_weights
from ssd.train.integrity import damaged_file
from ssd.train.network import adapt

PREFIX = "network."
"""What stands before a weight's name inside `CompletionLoss`."""


def gather_weights(loss: nn.Module) -> dict[str, Tensor]:
    """The trained weights, whole, on the CPU of rank 0; empty on other ranks.
    Every rank must call it."""
    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return trained_weights(loss, options)


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The same from a checkpoint's `weights/`, however many processes wrote it."""
    metadata = FileSystemReader(folder).read_metadata().state_dict_metadata
    state: dict[str, Any] = {
        name: torch.empty(tensor.size, dtype=tensor.properties.dtype)  # type: ignore[union-attr]
        for name, tensor in metadata.items()
    }
    read_state(state, checkpoint_id=folder, no_dist=True)
    return state


def export(trained: dict[str, Tensor], run: Run, folder: Path) -> dict[str, Any]:
    """Write `folder/model` in the layout of the base checkpoint; where adapters were trained,
    `folder/adapter`, and the model only with `adapter.merge`. Load what was written and compare.

    Returns:
        `max_logit_difference` between what was trained and what was loaded again on a fixed row,
        `num_tensors`, and where the base has tensors that are not loaded and the model is exported
        whole, their names as `carried_over`.

    Raises:
        ModelError: weights are missing or unknown, or the reloaded model computes something else.
    """
    adapter, base = run.config.adapter, lineage.start_folder(run)
    # safetensors does not say in one line that a disk is full.
    whole = adapter.type is AdapterType.none or adapter.merge
    require_space(folder, weight_bytes(base) if whole else stored_bytes(trained), "the export")
    if adapter.type is AdapterType.none:
        network = load(base, _dtype(run))
        load_trained(network, trained, frozen=_frozen(network, run))
        difference, carried = save_model(network, run, folder / MODEL)
    else:
        network = adapt(load(base, torch.float32), adapter, empty=False)
        load_trained(network, trained, frozen=set())
        difference = save_adapter(network, run, folder / ADAPTER)
        carried = merge(run, folder) if adapter.merge else []
    facts = {"max_logit_difference": difference, "num_tensors": len(trained)}
    return facts | ({"carried_over": carried} if carried else {})


def load_trained(network: Any, trained: dict[str, Tensor], frozen: set[str]) -> None:
    """Put trained weights into a whole network; `frozen` names those that were not trained though
    the network could train them."""
    state = {name.removeprefix(PREFIX): tensor for name, tensor in trained.items()}
    missing, unknown = network.load_state_dict(state, strict=False)
    trainable = {name for name, p in network.named_parameters() if p.requires_grad}
    lacking = sorted((set(missing) & trainable) - frozen)
    if lacking or unknown:
        raise ModelError(f"export: missing {lacking[:3]}, unknown {unknown[:3]} weights")


def save_model(network: Any, run: Run, folder: Path) -> tuple[float, list[str]]:
    """Save a whole checkpoint with what it takes over from the base; the largest change of its
    logits, and the names of the base's tensors that were carried over."""
    base, dtype = lineage.start_folder(run), _dtype(run)
    if (base / GENERATION_CONFIG).is_file():
        # The base's own file is copied. transformers would check it and refuse to write a
        # temperature without do_sample, as many models have it.
        network.generation_config = GenerationConfig()
    if not configured_ends(base):  # and not the default of its class, which transformers filled in
        network.config.eos_token_id = network.generation_config.eos_token_id = None
    network.save_pretrained(folder)
    carry_files(base, folder, run.config.model.dtype.value)
    carried = carry_tensors(base, folder)
    check_names(base, folder, tied=set(network.all_tied_weights_keys))
    logits = fixed_logits(network)
    return require_equal(logits, load(folder, dtype), folder), carried


def save_adapter(network: Any, run: Run, folder: Path) -> float:
    """Save an adapter alone; the largest change of its logits."""
    from peft import PeftModel

    model = run.config.model
    is_named = model.path is None and begun_from(run)[1] == BASE
    base_name = model.name if is_named else str(lineage.start_folder(run))
    network.peft_config["default"].base_model_name_or_path = base_name
    # Embeddings are never adapted; by default peft asks the hub whether they were resized.
    network.save_pretrained(folder, save_embedding_layers=False)
    (folder / CARD).unlink(missing_ok=True)  # peft's template; the report writes the card
    base = load(lineage.start_folder(run), torch.float32)
    return require_equal(fixed_logits(network), PeftModel.from_pretrained(base, folder), folder)


def merge(run: Run, folder: Path) -> list[str]:
    """Write `folder/model` from `folder/adapter`, added up in fp32; the names of the base's tensors
    that were carried over."""
    from peft import PeftModel

    base = lineage.start_folder(run)
    adapted = PeftModel.from_pretrained(load(base, torch.float32), folder / ADAPTER)
    merged = adapted.merge_and_unload().state_dict()
    network = load(base, _dtype(run))
    network.load_state_dict(merged)
    return save_model(network, run, folder / MODEL)[1]


def require_equal(logits: Tensor, reloaded: nn.Module, folder: Path) -> float:
    """The largest difference of the logits, which is 0; raises `ModelError` otherwise."""
    difference = float((logits - fixed_logits(reloaded)).abs().max())
    if difference != 0:
        raise ModelError(
            f"export: {folder} computes other logits than the trained model (by {difference:.3g})"
        )
    return difference


def _dtype(run: Run) -> torch.dtype:
    dtype = getattr(torch, run.config.model.dtype.value)
    assert isinstance(dtype, torch.dtype)
    return dtype


def _frozen(network: Any, run: Run) -> set[str]:
    from ssd.train.network import routers

    weights = {id(p) for p in unread(network)}
    if not run.config.train.train_router:
        weights |= {id(p) for router in routers(network) for p in router.parameters()}
    return {name for name, p in network.named_parameters() if id(p) in weights}


def check_names(base: Path, folder: Path, tied: set[str]) -> None:
    """Require that an export holds exactly the tensors that the base checkpoint lists, tied ones
    apart, which either may leave out.

    Raises:
        ModelError: tensors are missing or unknown.
    """
    expected, exported = tensor_names(base) - tied, tensor_names(folder) - tied
    if quantisation(base) == "mxfp4":  # two tensors stand for one, which is exported whole
        expected = {name.removesuffix("_blocks").removesuffix("_scales") for name in expected}
    missing, unknown = sorted(expected - exported), sorted(exported - expected)
    if missing or unknown:
        raise ModelError(
            f"export: {folder} lacks {len(missing)} tensors of the base ({missing[:3]}) and has "
            f"{len(unknown)} unknown ones ({unknown[:3]})"
        )


@torch.no_grad()
def fixed_logits(network: Any) -> Tensor:
    """Logits on a fixed random row, (1, 32, V)."""
    vocabulary = network.get_input_embeddings().num_embeddings
    ids = torch.randint(vocabulary, (1, 32), generator=torch.Generator().manual_seed(0))
    logits = network.eval()(input_ids=ids).logits
    assert isinstance(logits, Tensor)
    return logits


def export_again(run: Run, step: int | None) -> None:
    """Export the model that an evaluation loads: that of an earlier kept step, or (`step` None) the
    merged model of a training that kept only its adapter.

    Raises:
        ArtifactError: no checkpoint of that step was kept, or it is damaged.
    """
    folder = lineage.trained_folder(run, TUNED, step)
    if step is None or (folder / ADAPTER).is_dir():
        _require_intact(run, folder / ADAPTER)
        merge(run, folder)
        record_export(folder, [ADAPTER, MODEL])
        return
    if not folder.is_dir():
        checkpoint = lineage.checkpoint(run).folder
        kept = ", ".join(map(str, step_folders(checkpoint))) or "none"
        raise ArtifactError(
            f"eval.checkpoint_step {step}: that checkpoint of {checkpoint} was not kept "
            f"(kept: {kept}); before training, set train.checkpoint_every and "
            "train.keep_checkpoints=null"
        )
    if (file := damaged_file(folder, (STEP_WEIGHTS,))) is not None:
        raise ArtifactError(
            f"eval.checkpoint_step {step}: {folder} is damaged ({file}): choose another step"
        )
    _require_intact(run, folder / STEP_WEIGHTS)  # one of an earlier version has no digests itself
    temporary = folder / ".export"
    shutil.rmtree(temporary, ignore_errors=True)
    export(read_weights(folder / STEP_WEIGHTS), run, temporary)
    parts = [part.rename(folder / part.name).name for part in temporary.iterdir()]
    temporary.rmdir()
    record_export(folder, parts)


def _require_intact(run: Run, part: Path) -> None:
    checkpoint = lineage.checkpoint(run)
    if checkpoint.done:
        checkpoint.intact(f"{part.relative_to(checkpoint.folder)}/")


def main() -> None:
    """Command line of this module."""
    parser = stage_parser(
        "export",
        "Export a model of a run's training once more.",
        "outputs/main/defaults --step 6",
    )
    parser.add_argument("--step", type=int, help="optimizer step of a kept checkpoint")
    arguments = parser.parse_args()
    silence_loading_bars()
    with reporting_errors():
        export_again(load_run(arguments.run_dir), arguments.step)


if __name__ == "__main__":
    main()
