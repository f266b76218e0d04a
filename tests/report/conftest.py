"""The fixture of the report's tests."""

from pathlib import Path

import pytest
from run_folders import WEIGHTS, MakeRun, composed, finish_checkpoint, finish_corpus

from ssd.run import Run, save_run


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Saves a run under tmp_path/outputs/main; its corpus and checkpoint finished where asked."""

    def make(name: str = "first", *overrides: str, finished: bool = True) -> Run:
        config = composed("run_name=x", f"output_dir={tmp_path}/outputs", *overrides)
        config.run_name = name
        folder = tmp_path / "outputs" / "main" / name.replace("/", "_")
        run = Run(folder=folder, config=config, weights=WEIGHTS)
        save_run(run, ["python", "train.py", "model=tiny", "data.name=two words"])
        if finished:
            finish_corpus(run)
            finish_checkpoint(run)
        return run

    return make
