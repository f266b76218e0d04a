"""Training one run with Lightning: one process, or one per device under torchrun."""

import logging
import os
import shutil
import time
import warnings
import zipfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import ModelParallelStrategy
from transformers import AutoConfig

from ssd.artifacts import Artifact, explained
from ssd.config import Accelerator, Precision
from ssd.errors import ArtifactError
from ssd.generation import read_samples
from ssd.progress import progress_bar, silence_loading_bars
from ssd.run import Run
from ssd.tracking import Tracker
from ssd.train.data import CorpusDataModule, Example, make_examples
from ssd.train.export import export, gather_weights
from ssd.train.module import SelfDistillation

RESUME, MODEL = "resume", "model"
LIGHTNING_PRECISION = {Precision.fp32: "32-true", Precision.bf16: "bf16-mixed"}


def train(run: Run) -> None:
    """Train, export and check the run's model; returns at once where its checkpoint is finished.

    Raises:
        ArtifactError: the corpus is unfinished.
        DataError: the corpus does not fit the model or the settings.
    """
    checkpoint = run.checkpoint
    leads = int(os.environ.get("RANK", "0")) == 0
    with checkpoint.writing() if leads else nullcontext(), explained(checkpoint.folder):
        if checkpoint.done:
            print(f"up to date: {checkpoint.folder}", flush=True)
            return
        corpus = run.corpus
        if not corpus.done:
            raise ArtifactError(
                f"{corpus.folder} is unfinished: sample first, "
                f"with python -m ssd.sample {run.folder}"
            )
        _fit(run, checkpoint, read_samples(corpus.folder / "corpus.parquet"), leads=leads)


def _fit(run: Run, checkpoint: Artifact, samples: list[Any], *, leads: bool) -> None:
    started = time.time()
    _quiet()
    config = run.config
    base = run.model_folder("base")
    vocabulary = AutoConfig.from_pretrained(base).get_text_config().vocab_size
    examples, skipped = make_examples(
        samples, config.train.seq_len, config.train.long_samples, vocabulary
    )
    seed_everything(config.seed, verbose=False)
    module = SelfDistillation(base, config.adapter, config.optimizer, config.train, config.hardware)
    data = CorpusDataModule(
        examples,
        batch_size=config.train.global_batch_size,
        micro_batch_size=config.hardware.micro_batch_size or 1,
        max_steps=config.train.max_steps,
        norm=config.objective.norm,
        seed=config.seed,
    )
    with (
        Tracker(run, "train", checkpoint.fingerprint, checkpoint.folder)
        if leads
        else nullcontext() as tracker
    ):
        trainer = make_trainer(run, checkpoint.folder, tracker)
        trainer.fit(
            module,
            datamodule=data,
            ckpt_path=last_checkpoint(checkpoint.folder / RESUME),
            weights_only=False,
        )
    assert module.loss is not None
    counts = training_counts(
        module.loss.network,
        examples,
        skipped,
        config.train.max_steps,
        config.train.global_batch_size,
    )
    state = gather_weights(module.loss.network)
    if trainer.world_size > 1:
        # A rank that exits with its group alive can abort in gloo's threads.
        torch.distributed.destroy_process_group()
    if leads:
        checked = export(state, base, checkpoint.folder / MODEL, config.model.dtype)
        shutil.rmtree(checkpoint.folder / RESUME, ignore_errors=True)
        checkpoint.finish(started=started, counts=counts, export_check=checked)


def make_trainer(run: Run, folder: Path, tracker: Tracker | None) -> Trainer:
    """A Lightning trainer for the run's hardware;
    no strategy object where one device needs none."""
    config = run.config
    devices = config.hardware.devices or 1
    strategy: Any = "auto"
    if devices > 1:
        on_cpu = config.hardware.accelerator is Accelerator.cpu
        # "auto" would mean tensor parallelism over all devices.
        strategy = ModelParallelStrategy(
            data_parallel_size=devices,
            tensor_parallel_size=1,
            process_group_backend="gloo" if on_cpu else "nccl",
        )
    return Trainer(
        accelerator=config.hardware.accelerator.value,
        devices=devices,
        strategy=strategy,
        precision=LIGHTNING_PRECISION[config.train.precision],  # type: ignore[arg-type]
        max_steps=config.train.max_steps,
        max_epochs=1,
        accumulate_grad_batches=config.train.global_batch_size
        // ((config.hardware.micro_batch_size or 1) * devices),
        logger=False,
        callbacks=[
            ModelCheckpoint(
                dirpath=folder / RESUME,
                filename="{step}",
                every_n_train_steps=config.train.checkpoint_every,
                save_top_k=1,
                save_on_train_epoch_end=False,
            ),
            StepMetrics(config.train.max_steps, tracker),
        ],
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )


def last_checkpoint(folder: Path) -> Path | None:
    """The latest whole checkpoint; one that a kill cut short is no zip archive
    and is passed over."""
    found = [
        path
        for path in folder.glob("*.ckpt")
        if (path.is_dir() and (path / ".metadata").is_file()) or zipfile.is_zipfile(path)
    ]
    if not found:
        return None
    latest = max(found, key=lambda path: int(path.stem.split("=")[1].split("-")[0]))
    print(f"training: resuming from {latest}", flush=True)
    return latest


def training_counts(
    network: torch.nn.Module, examples: list[Example], skipped: int, max_steps: int, batch_size: int
) -> dict[str, Any]:
    """Facts of a finished training for its manifest."""
    parameters = list(network.parameters())
    return {
        "num_steps": max_steps,
        "num_samples": len(examples),
        "skipped_long_samples": skipped,
        "epochs": round(max_steps * batch_size / len(examples), 3),
        "num_loss_tokens": sum(example.num_loss_tokens for example in examples),
        "num_parameters": sum(p.numel() for p in parameters),
        "num_trainable": sum(p.numel() for p in parameters if p.requires_grad),
    }


class StepMetrics(Callback):
    """One line of metrics and one tick of a bar per optimizer step.

    A callback rather than a Lightning logger, because those write after the checkpoint callback:
    a run killed between the two would resume behind a step that its metrics never saw.
    """

    def __init__(self, max_steps: int, tracker: Tracker | None) -> None:
        self.max_steps = max_steps
        self.tracker = tracker
        self.step = 0
        self.bar: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin at the restored step."""
        self.step = trainer.global_step
        if self.tracker is not None:
            self.bar = progress_bar("training", self.max_steps, done=self.step, unit="step")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any
    ) -> None:
        """Log when an optimizer step was taken; every rank takes part in the sums."""
        if trainer.global_step == self.step:  # still accumulating
            return
        self.step = trainer.global_step
        assert isinstance(pl_module, SelfDistillation)
        metrics = pl_module.take_metrics()
        if self.tracker is not None:
            self.tracker.log(metrics, step=self.step)
            loss, rate = metrics["train/loss"], metrics["train/tokens_per_second"]
            self.bar.set_postfix_str(f"loss {loss:.3f}, {rate:.0f} tok/s", refresh=False)
            self.bar.update(1)

    def on_train_end(self, *_: Any) -> None:
        """Leave the full bar standing."""
        if self.bar is not None:
            self.bar.close()


def _quiet() -> None:
    silence_loading_bars()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
