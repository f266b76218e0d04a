"""The promised power is reached by simulation; variances are told apart; the command line."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from answers import make_verdict
from runs import compose_config
from score_records import benchmark, model, scores

from ssd.artifacts.names import VERDICTS
from ssd.artifacts.store import Artifact, artifact, existing
from ssd.errors import ArtifactError, ConfigError, DataError
from ssd.evaluate.power import power_report, run_power
from ssd.method.interval_ends import difference_ends
from ssd.method.pilot import SAMPLES, measure, problems_needed, smallest_difference
from ssd.method.sign_flip import sign_flip_p_value
from ssd.method.significance import visible_sentence
from ssd.models import Weights
from ssd.records.scores import read_scores, write_scores
from ssd.records.verdicts import Verdict, write_verdicts
from ssd.run import Run, save_run


def answers(
    num_problems: int, num_samples: int, gain: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Two models, the second better by `gain` on average, more so on some problems than others."""
    chances_P = rng.uniform(0.1, 0.7, size=(num_problems, 1))
    gains_P = gain + 0.1 * rng.choice([-1, 1], size=(num_problems, 1))
    shape = (num_problems, num_samples)
    return rng.random(shape) < chances_P, rng.random(shape) < chances_P + gains_P


@pytest.mark.parametrize("num_samples", [1, 2, 5])
def test_the_promised_power_is_reached(num_samples: int) -> None:
    rng = np.random.default_rng(0)
    pilot = measure(*answers(4000, 4, 0.08, rng))
    variance = float(pilot.variance(num_samples))
    needed = round(problems_needed(variance, 0.08, power=0.8, level=0.05))
    found = 0
    for _ in range(300):
        base, tuned = answers(needed, num_samples, 0.08, rng)
        found += sign_flip_p_value(tuned.mean(axis=1) - base.mean(axis=1), 400, rng) < 0.05
    assert 0.72 < found / 300 < 0.87


def test_a_pilot_tells_differences_between_problems_from_the_noise_of_sampling() -> None:
    pilot = measure(*answers(20_000, 3, 0.05, np.random.default_rng(1)))
    assert float(pilot.variance(None)) == pytest.approx(0.1**2, rel=0.15)
    chances = np.linspace(0.1, 0.7, 1001)
    noise = sum(
        (chances + gain) * (1 - chances - gain) / weight
        for gain, weight in ((0, 1), (0.15, 2), (-0.05, 2))
    ).mean()
    assert float(pilot.variance(1)) == pytest.approx(0.01 + noise, rel=0.03)
    assert float(pilot.variance(3)) == pytest.approx(float(pilot.differences_P.var()), rel=0.03)


def test_one_sample_answers_for_one_sample_only() -> None:
    pilot = measure(*answers(100, 1, 0.1, np.random.default_rng(0)))
    assert pilot.sample_counts == (1,)
    assert float(pilot.variance(1)) == pytest.approx(pilot.differences_P.var(ddof=1))
    with pytest.raises(DataError, match=r"eval\.num_samples"):
        pilot.variance(2)
    text = power_report(
        pilot, "a pilot", difference=3, power=0.8, level=0.05, rng=np.random.default_rng(0)
    )
    assert "cannot be told apart" in text
    assert "n=2" not in text
    assert "any number" not in text


def test_problems_needed_and_smallest_difference_are_one_formula() -> None:
    # 2 (1.96 + 0.8416)^2 0.25 / 0.1^2, as textbooks give it for two independent proportions
    assert problems_needed(0.5, 0.1, power=0.8, level=0.05) == pytest.approx(392.4, abs=0.1)
    assert smallest_difference(0.5, 392.4, power=0.8, level=0.05) == pytest.approx(0.1, abs=1e-4)


def test_power_says_what_the_report_says_and_no_less_than_the_test_needs() -> None:
    base_P_G = np.zeros((48, 1), dtype=bool)
    tuned_P_G = base_P_G.copy()
    tuned_P_G[:3] = True
    text = power_report(
        measure(base_P_G, tuned_P_G), "48 problems", difference=3, power=0.8, level=0.05,
        rng=np.random.default_rng(0),
    )  # fmt: skip
    low, high = difference_ends(tuned_P_G[:, 0] * 1.0, base_P_G[:, 0] * 1.0)
    said = visible_sentence(low, high, 48, 1, 1)  # the report's words
    assert "about 16.0 points" in said and said in text
    assert rows_of(text, "problems  n=1")["48"][0] == "16.0"
    assert "263 to " in text  # the lower end: fewer never show 3 points, whatever the noise


def test_a_pilot_without_variance_is_refused() -> None:
    same = np.array([[True, True], [False, False]])
    with pytest.raises(DataError, match="holds no variance"):
        measure(same, same)
    with pytest.raises(DataError, match="two problems"):
        measure(same[:1], ~same[:1])


def rows_of(text: str, title: str) -> dict[str, list[str]]:
    lines = text[text.index(title) :].splitlines()[2:]
    table = lines[: lines.index("")] if "" in lines else lines
    return {line.split("  ")[0]: line.split()[1:] for line in table}


def test_more_samples_need_fewer_problems_down_to_what_no_number_of_samples_helps() -> None:
    pilot = measure(*answers(300, 2, 0.1, np.random.default_rng(4)))
    text = power_report(
        pilot, "a pilot", difference=5, power=0.9, level=0.01, rng=np.random.default_rng(0)
    )
    needed = [
        int(cells[0 if number != "any number" else 1].replace(",", ""))
        for number, cells in rows_of(text, "samples per problem").items()
    ]
    assert len(needed) == len(SAMPLES) + 1
    assert needed == sorted(needed, reverse=True)
    assert needed[0] == pytest.approx(
        problems_needed(float(pilot.variance(1)), 0.05, power=0.9, level=0.01), abs=1
    )
    seen = rows_of(text, "problems  n=1")
    assert list(seen) == ["300", "131", "164", "374", "500"]
    assert float(seen["131"][0]) > float(seen["374"][0]) > float(seen["374"][2])


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run with scores.json and verdicts of two arms on one benchmark."""
    config = compose_config("model=tiny", f"output_dir={tmp_path}/outputs")
    config.run_name = "pilot"
    weights = Weights(path="nowhere", identity="r", tokenizer="b", source="random")
    run = Run(folder=tmp_path / "pilot", config=config, weights=weights)
    save_run(run, ["python", "train.py"])
    models = {}
    arms = dict(zip(("base", "tuned"), answers(40, 2, 0.2, np.random.default_rng(0)), strict=True))
    for arm, passed_P_G in arms.items():
        rows = [
            make_verdict(f"p/{problem}", index, bool(passed))
            for problem, row in enumerate(passed_P_G)
            for index, passed in enumerate(row)
        ]
        models[arm] = model(0.5, verdicts=stored_verdicts(run, rows).fingerprint)
    write_scores(run.folder, scores(benchmark(models, {})))
    return run


def stored_verdicts(run: Run, rows: list[Verdict]) -> Artifact:
    """A finished artifact with these verdicts."""
    verdicts = artifact(run.store, "verdicts", {"number": len(list(run.store.glob("*/*")))})
    write_verdicts(verdicts.folder / VERDICTS, rows)
    verdicts.finish(started=0.0, counts={})
    return verdicts


def folder_of(run: Run, arm: str) -> Path:
    scored = read_scores(run.folder)
    assert scored is not None
    return run.store / "verdicts" / scored.benchmarks[0].models[arm].verdicts


def command_line(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ssd.evaluate", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_line_reads_a_run_and_explains_itself(run: Run) -> None:
    result = command_line("power", str(run.folder), "--difference", "4")
    assert result.returncode == 0, result.stderr
    assert "base and tuned on humaneval, 40 problems with 2 samples each" in result.stdout
    assert "to see a difference of 4 points with power 0.8 at level 0.05" in result.stdout
    for arguments in (("--help",), ("power", "--help")):
        shown = command_line(*arguments).stdout
        assert "power" in shown
        assert "RUN_DIR" in shown
    refused = command_line("power", str(run.folder), "--benchmark", "humanevil")
    assert refused.returncode == 3
    assert refused.stderr.startswith("error: --benchmark=humanevil has no scores in")
    assert "did you mean 'humaneval'?" in refused.stderr


def test_folders_of_verdicts_stand_for_arms(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run_power([str(run.folder)])
    named = capsys.readouterr().out
    folders = [str(folder_of(run, arm)) for arm in ("base", "tuned")]
    run_power([str(run.folder), "--arms", *folders])
    assert capsys.readouterr().out.splitlines()[3:] == named.splitlines()[3:]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["--difference", "0"], ConfigError, "--difference must be positive"),
        (["--power", "1"], ConfigError, r"--power must lie in \(0, 1\)"),
        (["--arms", "base", "t1"], ArtifactError, "no scores of t1 on humaneval"),
    ],
)
def test_what_cannot_be_answered_is_refused(
    run: Run, arguments: list[str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        run_power([str(run.folder), *arguments])


def test_arms_of_different_problems_are_refused(run: Run) -> None:
    folder = folder_of(run, "base")
    rows = [
        make_verdict(f"other/{problem}", index, True) for problem in range(3) for index in range(2)
    ]
    write_verdicts(folder / VERDICTS, rows)
    existing(folder, ("verdicts",), "").finish(started=0.0, counts={})
    with pytest.raises(DataError, match="different problems"):
        run_power([str(run.folder), "--benchmark", "humaneval"])


def test_every_benchmark_is_answered_that_can_be(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    flat = stored_verdicts(run, [make_verdict(f"p/{number}", 0, False) for number in range(9)])
    stored = read_scores(run.folder)
    assert stored is not None
    models = {arm: model(0.5, verdicts=flat.fingerprint) for arm in ("base", "tuned")}
    both = (*stored.benchmarks, benchmark(models, {}, name="mbpp"))
    write_scores(run.folder, scores(*both))
    run_power([str(run.folder)])
    printed = capsys.readouterr().out
    assert "base and tuned on humaneval, 40 problems" in printed
    assert "mbpp: " in printed and "holds no variance" in printed
