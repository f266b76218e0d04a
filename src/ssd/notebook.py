"""What notebooks ask: `from ssd import start_run, load_results, plan_run, grade_answers`.

Every table is a pandas DataFrame of what the files of a run hold; nothing is computed anew.
"""

import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ssd.arms import TUNED
from ssd.artifacts.names import CORPUS, REPORT_PAGE, SHARDS, VERDICTS
from ssd.config import composition
from ssd.config.run_name import run_name
from ssd.config.settings import RunConfig
from ssd.drive.pipeline import follow
from ssd.errors import ArtifactError, ConfigError, StageError
from ssd.evaluate.standalone import run_grade
from ssd.plan.plan import Plan, make_plan
from ssd.records.scores import Scores, read_scores
from ssd.records.tables import shard_files
from ssd.report.run.facts import collect
from ssd.report.run.use import trained_model
from ssd.run import Run, evidence, lineage, load_run

if TYPE_CHECKING:
    from pandas import DataFrame

PERCENT = 100.0


class Results:
    """A finished run, as tables."""

    def __init__(self, folder: str | Path) -> None:
        """Raises `ArtifactError` where the folder holds no run."""
        self.run: Run = load_run(Path(folder))

    def __repr__(self) -> str:
        return f"Results({str(self.run.folder)!r})"

    @property
    def report(self) -> Path:
        """The page to open."""
        return self.run.folder / REPORT_PAGE

    @property
    def model(self) -> Path:
        """The trained checkpoint that the run reports, which transformers and vLLM load, or the
        adapter, which peft loads, where it was not merged.

        Raises:
            ArtifactError: there is none yet.
        """
        model = trained_model(collect(self.run.folder, read_positions=False))
        if model is None:
            raise ArtifactError(f"{self.run.folder} has no trained model yet: run its train stage")
        return model.folder

    @cached_property
    def stored_scores(self) -> Scores:
        """`scores.json` as objects.

        Raises:
            ArtifactError: the run is not scored.
        """
        scores = read_scores(self.run.folder)
        if scores is None:
            raise ArtifactError(f"{self.run.folder} has no scores yet: run its evaluate stage")
        return scores

    @property
    def scores(self) -> "DataFrame":
        """A row per benchmark, arm and k: pass@k in percent with its 95 % interval, how the arm was
        decoded, and the form of its answers (shares in [0, 1], lengths in tokens)."""
        rows = []
        for benchmark in self.stored_scores.benchmarks:
            for arm, scored in benchmark.models.items():
                for k, score in scored.pass_at.items():
                    row = {
                        "benchmark": benchmark.name,
                        "arm": arm,
                        "k": k,
                        **_percent(score),
                        "problems": benchmark.num_problems,
                        "samples": benchmark.num_samples,
                        **dataclasses.asdict(scored.setting),
                        "mean_tokens": scored.mean_tokens,
                        "fence_share": scored.fence_share,
                        "cut_share": scored.cut_share,
                        "distinct_programs": scored.distinct_programs,
                    }
                    rows.append(row)
        return _frame(rows)

    @property
    def differences(self) -> "DataFrame":
        """A row per benchmark, arm and k: the tuned model minus that arm in points, paired by
        problem, with its 95 % interval and sign-flip p-value."""
        return _frame(
            {"benchmark": benchmark.name, "minus": arm, "k": k, **_percent(change),
             "p": change.p_value}
            for benchmark in self.stored_scores.benchmarks
            for arm, comparison in benchmark.comparisons.items()
            for k, change in comparison.pass_at.items()
        )  # fmt: skip

    @property
    def corpus(self) -> "DataFrame":
        """The samples that are trained on: a row each, with text and token ids.

        Raises:
            ArtifactError: nothing is sampled yet.
        """
        corpus = lineage.corpus(self.run)
        if not corpus.done:
            raise ArtifactError(f"{self.run.folder} has no corpus yet: run its sample stage")
        return _parquet([corpus.folder / CORPUS])

    def answers(self, benchmark: str, arm: str = TUNED) -> "DataFrame":
        """Every answer of an arm to a benchmark with its verdict, a row each.

        Raises:
            ConfigError: the run has no such benchmark or arm.
            ArtifactError: its answers are no longer in the store.
        """
        scored = {each.name: each for each in self.stored_scores.benchmarks}
        if benchmark not in scored or arm not in scored[benchmark].models:
            arms = sorted({name for each in scored.values() for name in each.models})
            raise ConfigError(
                f"no answers of {arm} to {benchmark}: this run has {', '.join(arms)} on "
                f"{', '.join(scored)}"
            )
        source = scored[benchmark].models[arm]
        folders = [
            self.run.store / "generations" / source.generations,
            self.run.store / "verdicts" / source.verdicts,
        ]
        for folder in folders:
            if not folder.is_dir():
                raise ArtifactError(f"{folder} is gone: run the evaluate stage again")
        answers = _parquet(shard_files(folders[0] / SHARDS)).rename(
            columns={"prompt_id": "problem_id"}
        )
        verdicts = _parquet([folders[1] / VERDICTS])
        keys = ["problem_id", "sample_index"]
        shared = [name for name in verdicts if name in answers and name not in keys]
        return verdicts.drop(columns=shared).merge(answers, on=keys).sort_values(keys)

    @property
    def analysis(self) -> "DataFrame":
        """A row per position of the held-out answers and model: token, log-probability, entropy in
        nats, the most probable tokens, and the terms of the loss.

        Raises:
            ArtifactError: the run is not analysed.
        """
        import pandas

        from ssd.records.analysis import read_analysis

        found = evidence.finished_analysis(self.run)
        if found is None:
            raise ArtifactError(f"{self.run.folder} has no analysis yet: run its analyse stage")
        analysis = read_analysis(found.folder)
        tables = []
        for model, positions in analysis.positions.items():
            columns = {
                field.name: list(values) if values.ndim > 1 else values
                for field in dataclasses.fields(positions)
                for values in (getattr(positions, field.name),)
            }
            table = pandas.DataFrame(columns)
            pairs = zip(table["sample"], table["index"], strict=True)
            table.insert(0, "model", model)
            table["token"] = [analysis.samples[sample].tokens[index] for sample, index in pairs]
            table["problem_id"] = [analysis.samples[sample].prompt_id for sample in table["sample"]]
            tables.append(table)
        return pandas.concat(tables, ignore_index=True)


def load_results(folder: str | Path) -> Results:
    """A run by its folder, such as `outputs/main/defaults`.

    Raises:
        ArtifactError: the folder holds no run.
    """
    return Results(folder)


def compose_config(*overrides: str) -> RunConfig:
    """The configuration of a run with these overrides, as `python train.py` takes them.

    Raises:
        ConfigError: one of them is wrong.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from ssd.config.mistakes import explain

    try:
        return composition.compose_config("run_name=notebook", *overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise explain(error) from error


def plan_run(*overrides: str) -> Plan:
    """What a run would need; runs nothing. `print(plan_text(...))` of `ssd.plan.table` shows it.

    Raises:
        SSDError: a setting is wrong, or the model's sizes cannot be found.
    """
    settings = follow(compose_config(*overrides))
    with tempfile.TemporaryDirectory(prefix="ssd-") as folder:
        return make_plan(settings, Path(folder))


def start_run(*overrides: str) -> Results:
    """Run the method with these overrides, as `python train.py` does, and load what came out. A
    second call finds what is finished.

    Raises:
        ConfigError: a setting is wrong.
        StageError: the run failed; it has printed why.
    """
    settings = compose_config(*overrides)
    command = [sys.executable, "-m", "ssd.drive.command", *overrides]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
    ) as process:
        assert process.stdout is not None
        for text in process.stdout:  # a notebook shows what this process prints, not its children
            print(text, end="", flush=True)
    if process.returncode != 0:
        raise StageError(f"the run ended with code {process.returncode}: see what it printed")
    study = Path(settings.output_dir) / settings.study
    return Results(study / run_name(overrides, str(study)))


def grade_answers(
    answers: str | Path | Iterable[Mapping[str, Any]], benchmark: str, *options: str
) -> "DataFrame":
    """Verdicts on anyone's answers, a row each; prints pass@1.

    Args:
        answers: a file that `ssd grade` reads, or rows as it has them, such as
            `{"task_id": "HumanEval/0", "completion": "..."}`.
        options: more of its options, such as `"--k", "1", "5"`.

    Raises:
        SSDError: nothing could be graded; says why.
    """
    with tempfile.TemporaryDirectory(prefix="ssd-") as folder:
        path, out = Path(folder) / "answers.jsonl", Path(folder) / "verdicts.jsonl"
        if isinstance(answers, (str, Path)):
            path = Path(answers)
        else:
            lines = [json.dumps(dict(row)) for row in answers]
            path.write_text("\n".join(lines), encoding="utf-8")
        run_grade([str(path), "--benchmark", benchmark, "--out", str(out), *options])
        return _frame(map(json.loads, out.read_text(encoding="utf-8").splitlines()))


def _percent(interval: Any) -> dict[str, float]:
    return {name: PERCENT * getattr(interval, name) for name in ("value", "low", "high")}


def _frame(rows: Iterable[Mapping[str, Any]]) -> "DataFrame":
    from pandas import DataFrame

    return DataFrame(list(rows))


def _parquet(files: Iterable[Path]) -> "DataFrame":
    import pandas

    return pandas.concat([pandas.read_parquet(file) for file in files], ignore_index=True)
