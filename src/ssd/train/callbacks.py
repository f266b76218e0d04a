"""What Lightning calls at every step of a training: checkpoints and metrics."""

import signal
from typing import Any

from lightning import Callback, LightningModule, Trainer

from ssd.artifacts.store import Artifact
from ssd.config.settings import RunConfig, TrainConfig
from ssd.run.lineage import step_folder
from ssd.run.tracking import Tracker
from ssd.runtime.progress import progress_bar
from ssd.runtime.reporting import PREEMPTION_SIGNALS
from ssd.train import checkpoints
from ssd.train.data import Steps
from ssd.train.module import SelfDistillation


def kept_step(train: TrainConfig) -> int:
    """The step whose state stays for longer trainings to go on from; 0 where none does."""
    return train.num_steady_steps if train.keep_optimizer else 0


class Checkpoints(Callback):
    """Restores the newest whole checkpoint, writes one every few steps, and one when a signal asks
    the process to stop, as a cluster's preemption does."""

    def __init__(
        self, checkpoint: Artifact, config: RunConfig, steps: Steps, tracker: Tracker | None
    ) -> None:
        self.folder = checkpoint.folder
        self.fingerprint = checkpoint.fingerprint
        self.train = config.train
        self.steps = steps
        self.tracker = tracker
        """Of the first process; None in the others."""
        self.previous: dict[int, Any] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the step to go on from, before weights are loaded. Only now can the processes talk
        to each other, and each looks at a share of the checkpoint."""
        assert isinstance(pl_module, SelfDistillation)
        step = checkpoints.newest(self.folder, self.fingerprint)
        self.steps.first = pl_module.step = step
        if self.tracker is not None:
            self.tracker.resume(step)
            if step:
                print(f"training: resuming from {step_folder(self.folder, step)}", flush=True)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Restore weights and optimizer: also after the last step, when Lightning has no batch and
        skips the hooks that follow, and the weights are still to be exported."""
        assert isinstance(pl_module, SelfDistillation)
        if pl_module.step:
            checkpoints.load(self.folder, pl_module.step, pl_module.loss, trainer.optimizers[0])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take over the signals from Lightning."""
        assert isinstance(pl_module, SelfDistillation)

        def request_stop(*_: Any) -> None:
            pl_module.stop_requested = True

        # Lightning's own handlers talk to other ranks wherever the signal finds them.
        for number in PREEMPTION_SIGNALS:
            self.previous[number] = signal.signal(number, request_stop)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any
    ) -> None:
        """Write a checkpoint, and stop if any process was asked to."""
        assert isinstance(pl_module, SelfDistillation)
        step, stops = pl_module.step, pl_module.stops
        kept = kept_step(self.train)
        stopped = stops and step < self.train.max_steps
        if step % self.train.checkpoint_every == 0 or step == kept or stopped:
            if self.tracker is not None:
                self.tracker.sync()
            checkpoints.save(
                self.folder, step, pl_module.loss, trainer.optimizers[0],
                fingerprint=self.fingerprint, keep=self.train.keep_checkpoints, spared=kept,
            )  # fmt: skip
        trainer.should_stop = stops

    def on_train_end(self, *_: Any) -> None:
        """Give the signals back."""
        for number, handler in self.previous.items():
            signal.signal(number, handler)


class StepMetrics(Callback):
    """One line of metrics and one tick of a bar per optimizer step."""

    def __init__(self, max_steps: int, tracker: Tracker) -> None:
        self.max_steps = max_steps
        self.tracker = tracker
        self.bar: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin at the restored step."""
        assert isinstance(pl_module, SelfDistillation)
        self.bar = progress_bar("training", self.max_steps, done=pl_module.step, unit="step")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *_: Any, **__: Any
    ) -> None:
        """Log the step."""
        assert isinstance(pl_module, SelfDistillation)
        metrics = pl_module.metrics
        self.tracker.log(metrics, step=pl_module.step)
        loss, rate = metrics["train/loss"], metrics["train/tokens_per_second"]
        self.bar.set_postfix_str(f"loss {loss:.3f}, {rate:.0f} tok/s", refresh=False)
        self.bar.update(1)

    def on_train_end(self, *_: Any) -> None:
        """Leave the full bar standing."""
        self.bar.close()

    def on_exception(self, *_: Any) -> None:
        """End the bar's line, so that the message has its own."""
        if self.bar is not None:
            self.bar.close()
