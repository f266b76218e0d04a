"""The GPU replications: composed from one word, chosen and reported on different problems, and
docs/replication.md prints what they cost."""

import csv
import datetime
import re
import shlex
from pathlib import Path

import pytest
from runs import ROOT, compose_config

from ssd.arms import SAME, SWEPT, UNIT
from ssd.config.choices import Grading, LongSamples
from ssd.config.settings import BenchmarkFiles, RunConfig
from ssd.method.pilot import smallest_difference
from ssd.plan.plan import Plan, make_plan
from ssd.plan.table import plan_text
from ssd.problems.benchmarks.livecodebench_windows import count_window, parse_window
from ssd.problems.benchmarks.registry import load_benchmark
from ssd.report.render.formats import duration

MODELS = {
    "replicate_4b": ("qwen3_4b", "Qwen/Qwen3-4B-Instruct-2507"),
    "replicate_30b": ("qwen3_30b", "Qwen/Qwen3-30B-A3B-Instruct-2507"),
}
REPORTED = ["lcb_v6", "lcb_v5_374"]
DOCS = (ROOT / "docs" / "replication.md").read_text(encoding="utf-8")
PRINTED = re.findall(r"```\n\$ python train.py ([^\n]*)\n(plan of .*?)\n```", DOCS, re.DOTALL)
ROWS = re.findall(r"\| \d, of [^|]*\| `([^`]*)` \| ([^|]*) \| ([^|]*) \| ([^|]*) \|", DOCS)


@pytest.fixture
def no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def plan(folder: Path, arguments: str) -> Plan:
    return make_plan(compose_config(*shlex.split(arguments), f"output_dir={folder}"), folder)


@pytest.mark.parametrize("experiment", MODELS)
def test_one_word_brings_the_papers_model_data_and_settings(experiment: str) -> None:
    option, name = MODELS[experiment]
    config, paper = compose_config(f"experiment={experiment}"), compose_config(f"model={option}")
    assert (config.model, config.model.name, config.recipe) == (paper.model, name, paper.recipe)
    assert (config.sampler, config.truncation) == (paper.sampler, paper.truncation)
    assert (config.optimizer, config.adapter) == (paper.optimizer, paper.adapter)
    changed, stated = config.train, paper.train
    assert changed.long_samples is LongSamples.truncate
    changed.long_samples = stated.long_samples
    assert changed == stated
    assert (config.data.hub_name, config.data.dedup) == ("microsoft/rStar-Coder", True)


@pytest.mark.parametrize("experiment", MODELS)
def test_every_control_is_there_and_the_sweep_lies_around_the_papers_temperatures(
    experiment: str,
) -> None:
    settings = compose_config(f"experiment={experiment}").eval
    assert settings.benchmarks == REPORTED
    assert set(settings.controls) == {SWEPT, SAME, UNIT}
    assert (settings.num_samples, settings.k) == (10, [1, 5])
    for own in (settings.temp, settings.base_temp):
        assert own in settings.temps
        assert min(settings.temps) < own < max(settings.temps)


@pytest.mark.parametrize("experiment", MODELS)
def test_the_problems_that_choose_are_older_than_all_reported_ones(experiment: str) -> None:
    choosing = parse_window(compose_config(f"experiment={experiment}").eval.validation)
    assert choosing.last is not None
    for name in REPORTED:
        assert choosing.last < (parse_window(name).first or "")


def test_what_is_known_of_each_month_adds_up_to_the_known_windows(shared: Path) -> None:
    with (shared / "livecodebench_meta" / "v6_questions_pass1.csv").open() as file:
        late = [
            datetime.date.fromisoformat(row["leaderboard_date"]) for row in csv.DictReader(file)
        ]
    dates = [str(date - datetime.timedelta(days=1)) for date in late]
    for name in (
        compose_config("experiment=replicate_4b").eval.validation,
        "lcb_release_v6@2024-08-01..2025-02-28",
        "lcb_release_v6@2025-02-01..2025-05-31",
        "lcb_release_v6@..2023-05-31",
        "lcb_release_v6@2024-01-01..",
    ):
        assert count_window(parse_window(name)) == sum(map(parse_window(name).holds, dates)), name
    assert count_window(parse_window("lcb_release_v6@2025-02-02..")) is None
    assert count_window(parse_window("lcb_release_v5@2024-05-01..2024-07-31")) is None


def test_official_rows_of_the_window_that_chooses_are_none_of_the_reported(shared: Path) -> None:
    files = BenchmarkFiles(lcb=str(shared / "livecodebench" / "lcb_v5_public.jsonl.gz"))
    name = compose_config("experiment=replicate_4b").eval.validation
    ids = {
        one: {t.problem.problem_id for t in load_benchmark(one, files, Grading.official).tasks}
        for one in (name, "lcb_v5_374")
    }
    assert len(ids[name]) == 60  # the file is half of release_v5
    assert not ids[name] & ids["lcb_v5_374"]


@pytest.mark.usefixtures("no_gpus")
def test_the_plans_in_the_docs_are_what_is_printed(tmp_path: Path) -> None:
    assert [arguments.split()[0] for arguments, _ in PRINTED] == [
        f"experiment={name}" for name in MODELS
    ]
    for arguments, printed in PRINTED:
        text = plan_text(plan(tmp_path, arguments))
        position = 0
        for piece in printed.split("\n...\n"):
            position = text.index(piece, position)  # in this order


@pytest.mark.usefixtures("no_gpus")
def test_one_to_eight_gpus_hold_the_4b_training_as_the_docs_say(tmp_path: Path) -> None:
    assert len(ROWS) == 4
    for arguments, gib, time, device_hours in ROWS:
        found = plan(tmp_path, f"experiment=replicate_4b {arguments}")
        seconds = found.hours.seconds
        assert seconds is not None
        assert not found.misfits and found.tight is None
        assert "GPUs:" not in found.hours.speed_source  # none is idle
        hours = seconds * found.config.hardware.num_processes / 3600
        said = (f"{found.memory.needed / 2**30:.1f}", duration(seconds), f"{hours:.1f}")
        assert said == (gib, time, device_hours)


def test_the_command_line_names_other_hardware_than_the_experiment() -> None:
    config: RunConfig = compose_config("experiment=replicate_30b")
    assert config.hardware.devices == 8
    one = compose_config("experiment=replicate_30b", "hardware=gpu_1").hardware
    assert one.devices == 1


def test_the_differences_that_show_are_the_formulas() -> None:
    header, *rows = re.findall(r"^\| (standard|25|35)(.*) \|$", DOCS, re.MULTILINE)
    sizes = [int(text) for text in re.findall(r"\d+", header[1])]
    assert sizes == [131, 374, 505]
    assert [deviation for deviation, _ in rows] == ["25", "35"]
    for deviation, values in rows:
        variance = (int(deviation) / 100) ** 2
        seen = [100 * smallest_difference(variance, size, 0.8, 0.05) for size in sizes]
        assert re.findall(r"[\d.]+", values) == [f"{one:.1f}" for one in seen]
