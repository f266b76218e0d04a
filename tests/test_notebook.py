"""What notebooks ask: a finished run as tables, a plan, verdicts; and the notebook itself."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from runs import ROOT
from test_finished_store import unpack

import ssd
from ssd import grade_answers, load_results, plan_run
from ssd.errors import ArtifactError, ConfigError
from ssd.notebook import Results

NOTEBOOK = ROOT / "notebooks" / "method.ipynb"
SOLUTION = {"task_id": "HumanEval/0", "completion": "    return False\n"}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    output = tmp_path_factory.mktemp("finished") / "outputs"
    unpack(output)
    (run,) = (output / "main").iterdir()
    (corpus, *_) = (output / "store" / "corpus").iterdir()
    inputs = json.loads((corpus / "manifest.json").read_text())["inputs"]
    weights = {"path": "", "identity": inputs["weights"], "source": "random"}
    text = json.dumps({**weights, "tokenizer": inputs["tokenizer"]})
    (run / "weights.json").write_text(text)  # the archive is without weights
    return load_results(run)


def test_importing_ssd_imports_nothing_else() -> None:
    code = "import sys, ssd; print([name for name in sys.modules if name.startswith('ssd.')])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == "[]\n"
    assert {"load_results", "grade_answers"} <= set(dir(ssd))
    with pytest.raises(AttributeError, match="load_result'"):
        _ = ssd.load_result  # type: ignore[attr-defined]


def test_scores_and_differences_are_those_of_the_file(results: Results) -> None:
    stored = json.loads((results.run.folder / "scores.json").read_text())["benchmarks"]
    table = results.scores.set_index(["benchmark", "arm", "k"])
    for benchmark, scored in stored.items():
        for arm, model in scored["models"].items():
            row = table.loc[(benchmark, arm, 1)]
            assert math.isclose(row["value"], 100 * model["pass@1"]["value"])
            assert row["temp"] == model["temp"]
    changes = results.differences.set_index(["benchmark", "minus", "k"])
    for benchmark, scored in stored.items():
        for arm, change in scored["comparisons"].items():
            row = changes.loc[(benchmark, arm, 1)]
            assert math.isclose(row["low"], 100 * change["pass@1"]["low"])
            assert row["p"] == change["pass@1"]["p_value"]


def test_answers_come_with_their_verdicts_and_the_corpus_with_its_texts(results: Results) -> None:
    benchmark = results.stored_scores.benchmarks[0]
    answers = results.answers(benchmark.name, "base")
    assert len(answers) == benchmark.num_problems * benchmark.num_samples
    share = 100 * answers.groupby("problem_id")["passed"].mean().mean()
    scores = results.scores.set_index(["benchmark", "arm", "k"])
    assert math.isclose(share, scores.loc[(benchmark.name, "base", 1)]["value"], abs_tol=1e-9)
    assert answers["text"].str.len().gt(0).any()
    assert {"prompt_id", "text", "completion_token_ids"} <= set(results.corpus.columns)
    with pytest.raises(ConfigError, match="no answers of other to"):
        results.answers(benchmark.name, "other")


def test_the_analysis_is_a_row_per_position_and_model(results: Results) -> None:
    table = results.analysis
    counts = table.groupby("model").size()
    assert counts.nunique() == 1
    assert {"base", "tuned"} <= set(counts.index)
    first = table[(table["model"] == "base") & (table["sample"] == 0)].sort_values("index")
    assert "".join(first["token"])
    assert first["entropy"].ge(0).all()


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="holds no run"):
        load_results(tmp_path)


def test_a_plan_takes_overrides_and_refuses_wrong_ones() -> None:
    assert plan_run("model=tiny").numbers()["model"] == "tiny"
    with pytest.raises(ConfigError, match=r"did you mean 'sampler\.temp'"):
        plan_run("sampler.tmep=1")


def test_anyones_answers_are_graded() -> None:
    verdicts = grade_answers([SOLUTION], "humaneval", "--answered-only")
    assert list(verdicts["task_id"]) == ["HumanEval/0"]
    assert not verdicts["passed"].any()


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_the_notebook_runs_from_its_first_cell_to_its_last(tmp_path: Path) -> None:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert len(code) == 5
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(code)],
        capture_output=True, text=True, check=False, cwd=tmp_path,
        env={**os.environ, "SSD_CACHE": str(tmp_path / "cache")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (report,) = (tmp_path / "outputs" / "main").glob("*/report.html")
    assert report.stat().st_size > 10_000
    assert "passed" in done.stdout
