"""Loggers, which mirror a stage's metrics: W&B, TensorBoard, MLflow.

A second process for the same artifact tells a logger everything again, from the first line on, and
replaces what the one before has told: a step that was taken back stays in none of them.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ssd.artifacts.fingerprints import dotted, plain
from ssd.artifacts.names import MLFLOW_ARTIFACTS, MLFLOW_STORE, TENSORBOARD
from ssd.config.settings import LoggerConfig
from ssd.errors import ArtifactError, one_line
from ssd.run import Run
from ssd.run.wandb_logger import WandbLogger, require_wandb_folders, wandb_mode

MLFLOW_URI = "MLFLOW_TRACKING_URI"
ARTIFACT_TAG = "ssd.artifact"
"""The tag of an MLflow run that names the stage and the artifact it tells of."""
MAX_PARAMS, MAX_METRICS = 100, 1000
"""What MLflow takes in one request."""


class Logger(Protocol):
    """What mirrors one stage."""

    def log(self, line: Mapping[str, Any]) -> None:
        """A line of the metrics file, with its `time` and perhaps its `step`."""

    def summary(self, values: Mapping[str, Any]) -> None:
        """Final values of the run."""

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table of texts and numbers."""

    def images(self, paths: Mapping[str, Path]) -> None:
        """Image files by name."""

    def reference(self, folder: Path, name: str) -> None:
        """Where a checkpoint lies."""

    def finish(self, *, failed: bool) -> None:
        """Write what is still held, and close."""


def start_loggers(run: Run, stage: str, fingerprint: str) -> list[Logger]:
    """The loggers that a run asks for, started."""
    kinds: dict[str, Callable[[Run, str, str], Logger]] = {
        "wandb": WandbLogger,
        "tensorboard": TensorBoardLogger,
        "mlflow": MlflowLogger,
    }
    return [kinds[name](run, stage, fingerprint) for name in run.config.logger.chosen]


def check_loggers(logger: LoggerConfig, output_dir: Path) -> None:
    """Raise `ArtifactError` where a logger could not be told anything."""
    if logger.wandb:
        require_wandb_folders()
    if logger.mlflow:
        experiment(logger, output_dir)


def where_logged(run: Run) -> list[str]:
    """A line for each logger of this machine: what shows, or sends, what it was told."""
    logger, lines = run.config.logger, []
    if logger.wandb and wandb_mode(logger) == "offline":
        lines.append(f"W&B is offline; after wandb login: wandb sync {run.folder / 'wandb'}")
    if logger.tensorboard:
        lines.append(f"TensorBoard: tensorboard --logdir {run.folder.parent}")
    if logger.mlflow and MLFLOW_URI not in os.environ:
        uri = mlflow_uri(Path(run.config.output_dir))
        lines.append(f"MLflow: mlflow ui --backend-store-uri {uri}")
    return lines


class TensorBoardLogger:
    """Event files, a folder of the run folder for each artifact."""

    def __init__(self, run: Run, stage: str, fingerprint: str) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder = run.folder / TENSORBOARD / f"{stage}-{fingerprint}"
        shutil.rmtree(folder, ignore_errors=True)
        self.writer: Any = SummaryWriter(str(folder))
        self.settings = dotted(plain(run.config))
        self.writer.add_text(
            "settings", markdown(("setting", "value"), list(self.settings.items()))
        )

    def log(self, line: Mapping[str, Any]) -> None:
        for name, value in numbers(line).items():
            self.writer.add_scalar(name, value, line.get("step", 0), line["time"])

    def summary(self, values: Mapping[str, Any]) -> None:
        from torch.utils.tensorboard.summary import hparams

        kept = {
            name: value if isinstance(value, (bool, int, float, str)) else json.dumps(value)
            for name, value in self.settings.items()
        }
        # SummaryWriter.add_hparams would make a run of its own of them, in a folder below this one.
        for event in hparams(kept, numbers(values)):
            self.writer.file_writer.add_summary(event)
        for name, value in numbers(values).items():
            self.writer.add_scalar(name, value, 0)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        self.writer.add_text(name, markdown(columns, rows))

    def images(self, paths: Mapping[str, Path]) -> None:
        import numpy as np
        from PIL import Image

        for name, path in paths.items():
            pixels = np.asarray(Image.open(path).convert("RGB"))
            self.writer.add_image(name, pixels, dataformats="HWC")

    def reference(self, folder: Path, name: str) -> None:
        self.writer.add_text(name, str(folder.absolute()))

    def finish(self, *, failed: bool) -> None:
        self.writer.close()


class MlflowLogger:
    """An MLflow run for each artifact, at MLFLOW_TRACKING_URI or in a SQLite file of `output_dir`.

    The metrics file is the record: a server that is lost on the way costs the mirror alone.
    """

    def __init__(self, run: Run, stage: str, fingerprint: str) -> None:
        config = run.config
        self.client, place = experiment(config.logger, Path(config.output_dir))
        artifact = f"{stage}-{fingerprint}"
        earlier = self.client.search_runs([place], f"tags.`{ARTIFACT_TAG}` = '{artifact}'")
        for each in earlier:
            self.client.delete_run(each.info.run_id)
        tags = {ARTIFACT_TAG: artifact, "ssd.stage": stage, "ssd.study": config.study}
        name = f"{config.title} {stage}"
        self.run_id = self.client.create_run(place, run_name=name, tags=tags).info.run_id
        self.logged: set[str] = set()
        self.lost = False
        settings = dotted(plain(config))
        self._send(lambda: self._params({name: str(value) for name, value in settings.items()}))

    def log(self, line: Mapping[str, Any]) -> None:
        values = numbers(line)
        self.logged |= values.keys()
        self._send(lambda: self._metrics(values, line.get("step", 0), round(line["time"] * 1000)))

    def summary(self, values: Mapping[str, Any]) -> None:
        rest = {name: value for name, value in numbers(values).items() if name not in self.logged}
        self._send(lambda: self._metrics(rest, 0, round(time.time() * 1000)))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        data = {column: [row[i] for row in rows] for i, column in enumerate(columns)}
        self._send(lambda: self.client.log_table(self.run_id, data, f"{name}.json"))

    def images(self, paths: Mapping[str, Path]) -> None:
        for name, path in paths.items():
            folder = str(Path(name).parent)
            self._send(lambda p=path, f=folder: self.client.log_artifact(self.run_id, str(p), f))

    def reference(self, folder: Path, name: str) -> None:
        self._send(lambda: self.client.set_tag(self.run_id, name, folder.absolute().as_uri()))

    def finish(self, *, failed: bool) -> None:
        status = "FAILED" if failed else "FINISHED"
        self._send(lambda: self.client.set_terminated(self.run_id, status))

    def _params(self, settings: dict[str, str]) -> None:
        from mlflow.entities import Param

        params = [Param(name, value) for name, value in settings.items()]
        for start in range(0, len(params), MAX_PARAMS):
            self.client.log_batch(self.run_id, params=params[start : start + MAX_PARAMS])

    def _metrics(self, values: dict[str, float], step: int, milliseconds: int) -> None:
        from mlflow.entities import Metric

        metrics = [
            Metric(mlflow_name(name), float(value), milliseconds, step)
            for name, value in values.items()
        ]
        for start in range(0, len(metrics), MAX_METRICS):
            self.client.log_batch(self.run_id, metrics=metrics[start : start + MAX_METRICS])

    def _send(self, call: Any) -> None:
        from mlflow.exceptions import MlflowException

        if self.lost:
            return
        try:
            call()
        except MlflowException as error:
            self.lost = True
            print(f"note: MLflow is told no more ({one_line(error)[:160]})", flush=True)


def mlflow_uri(output_dir: Path) -> str:
    """Where MLflow's runs are kept."""
    return os.environ.get(MLFLOW_URI) or f"sqlite:///{output_dir.absolute() / MLFLOW_STORE}"


def experiment(logger: LoggerConfig, output_dir: Path) -> tuple[Any, str]:
    """MLflow's client, and the id of the project's experiment, made where there is none.

    Raises:
        ArtifactError: what MLFLOW_TRACKING_URI names does not answer, or the file is not writable.
    """
    # What MLflow reports of its use, lines on how it makes its tables, and five minutes of tries at
    # a server that is not there.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    uri, is_local = mlflow_uri(output_dir), not os.environ.get(MLFLOW_URI)
    artifacts = (output_dir.absolute() / MLFLOW_ARTIFACTS).as_uri() if is_local else None
    if is_local:
        output_dir.mkdir(parents=True, exist_ok=True)
    try:
        client = MlflowClient(tracking_uri=uri)
        found = client.get_experiment_by_name(logger.project)
        if found is not None:
            return client, found.experiment_id
        return client, client.create_experiment(logger.project, artifact_location=artifacts)
    except MlflowException as error:
        raise ArtifactError(
            f"MLflow at {uri} cannot be used ({one_line(error)[:160]}): set {MLFLOW_URI} to "
            "another place, or use logger=none"
        ) from error


def mlflow_name(name: str) -> str:
    """A metric's name as MLflow takes it: `pass@1` becomes `pass_at_1`."""
    return name.replace("@", "_at_")


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """The metrics of a line or a summary."""
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, (int, float)) and name not in ("time", "step")
    }


def markdown(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table as TensorBoard shows it; texts lose their line ends."""

    def line(cells: Sequence[Any]) -> str:
        texts = (str(cell).replace("|", "\\|").replace("\n", "<br>") for cell in cells)
        return f"| {' | '.join(texts)} |"

    return "\n".join([line(columns), line(["---"] * len(columns)), *map(line, rows)])
