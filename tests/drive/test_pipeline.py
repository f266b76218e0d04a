"""The whole method on the tiny model with the real engine: run, run again, kill, resume, sweep."""

import dataclasses
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from kills import MARK, done_steps, ignored, require_none_left, wait_for_moment
from runs import ROOT, compose_config
from test_readme import STAGES

from ssd.arms import INTERVALS
from ssd.artifacts.fingerprints import fingerprint
from ssd.artifacts.names import MANIFEST
from ssd.artifacts.seals import read_sealed
from ssd.artifacts.store import read_manifest, verify
from ssd.drive.pipeline import link_artifacts
from ssd.drive.stages import is_current
from ssd.errors import REPORTED, ArtifactError
from ssd.evaluate.evaluation import build_scores
from ssd.evaluate.selection import list_jobs
from ssd.problems.problem import packaged_file
from ssd.problems.rows import read_jsonl
from ssd.records.samples import read_samples
from ssd.records.scores import Scores, write_scores
from ssd.report.run.facts import Facts, collect
from ssd.run import Run, evidence, lineage, load_run, protocol


def command(output: Path, *arguments: str) -> list[str]:
    return [
        sys.executable,
        str(ROOT / "train.py"),
        *arguments,
        "model=tiny",
        f"output_dir={output}",
    ]


def train_py(output: Path, *arguments: str, code: int = 0) -> str:
    done = subprocess.run(
        command(output, *arguments), capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def artifacts(output: Path) -> dict[str, list[Path]]:
    return {kind.name: sorted(kind.iterdir()) for kind in sorted((output / "store").iterdir())}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    output = tmp_path_factory.mktemp("pipeline") / "out"
    return output, train_py(output)


@pytest.fixture(scope="module")
def other(finished: tuple[Path, str]) -> str:
    """What a second run prints that decodes the same models at another temperature."""
    stages = "stages=[sample,train,evaluate]"
    return train_py(
        finished[0], "run_name=other", "eval.temp=0.3", "eval.benchmarks=[mbpp]", stages
    )


def test_one_command_runs_the_method_and_reports_it(finished: tuple[Path, str]) -> None:
    output, printed = finished
    folder = output / "main" / "model-tiny"
    assert {kind: len(found) for kind, found in artifacts(output).items()} == {
        "analysis": 1,
        "checkpoint": 1,
        "corpus": 1,
        "generations": 4,
        "verdicts": 4,
    }
    for name in ("config.yaml", "scores.json", "report.md", "report.html", "figures", "analysis"):
        assert (folder / name).exists(), name
    assert "tuned minus it" in printed
    assert printed.count("wandb sync") == 1
    assert f"model: {folder}/checkpoint/model" in printed
    assert f"--model {folder}/checkpoint/model --override-generation-config" in printed
    assert list(folder.glob("wandb/offline-run-*"))
    report = (folder / "report.md").read_text()
    assert f"python train.py model=tiny output_dir={output}" in report
    for found in artifacts(output).values():
        for artifact in found:
            assert verify(artifact) == []


def test_one_engine_draws_the_corpus_and_the_base_models_answers(
    finished: tuple[Path, str],
) -> None:
    run = load_run(finished[0] / "main" / "model-tiny")
    answers = {
        model: [
            evidence.generations(run, model, name, part=part)
            for name, part in protocol.reported_on(run)
        ]
        for model in ("base", "tuned")
    }
    assert lineage.corpus(run).manifest()["engine_start_seconds"] > 0
    starts = {
        model: [answer.manifest()["engine_start_seconds"] > 0 for answer in artifacts]
        for model, artifacts in answers.items()
    }
    assert starts == {"base": [False, False], "tuned": [True, False]}
    assert (
        answers["base"][0].manifest()["finished"] <= lineage.checkpoint(run).manifest()["finished"]
    )


def test_running_again_starts_nothing_and_prints_the_same_table(finished: tuple[Path, str]) -> None:
    output, printed = finished
    before = {
        path: path.stat().st_mtime_ns for path in (output / "store").rglob("*") if path.is_file()
    }
    again = train_py(output)
    assert "starts" not in again
    table = re.search(r" +decoding .*?code ran isolated by", printed, re.DOTALL)
    assert table is not None
    assert table[0] in again
    assert before == {
        path: path.stat().st_mtime_ns for path in (output / "store").rglob("*") if path.is_file()
    }


def test_the_base_model_alone_needs_no_training_and_no_stages(
    finished: tuple[Path, str],
) -> None:
    output, _ = finished
    before = artifacts(output)
    printed = train_py(output, "run_name=alone", "eval.arms=[base]", "eval.temp=0.2")
    assert "eval.arms=[base]: the base model alone, at eval.base_temp=0.7" in printed
    assert "evaluate  starts" in printed
    assert not re.search(r"^(sample|train|analyse) ", printed, re.MULTILINE)
    table = printed.partition("decoding")[2]
    assert re.search(r"^base +T=0.7", table, re.MULTILINE)
    assert not re.search(r"^tuned ", table, re.MULTILINE)
    assert (output / "main" / "alone" / "report.html").is_file()
    assert artifacts(output) == before  # its answers were there


@pytest.mark.slow
def test_another_evaluation_temperature_neither_samples_nor_trains(
    finished: tuple[Path, str], other: str
) -> None:
    output, _ = finished
    assert re.search(r"sample +up to date", other)
    assert re.search(r"train +up to date", other)
    assert "mbpp base" not in other  # the base model's answers are shared
    assert len(artifacts(output)["corpus"]) == len(artifacts(output)["checkpoint"]) == 1


def test_answers_are_graded_again_without_the_weights_that_gave_them(
    finished: tuple[Path, str],
) -> None:
    output, _ = finished
    model = artifacts(output)["checkpoint"][0] / "model"
    elsewhere = model.rename(output / "elsewhere")
    again = ("eval.timeout=7", "stages=[sample,train,evaluate]")
    printed = train_py(output, *again)
    elsewhere.rename(model)
    assert "grading humaneval tuned" in printed
    assert "tuned minus it" in printed


def test_training_uses_exactly_the_sampled_ids(finished: tuple[Path, str]) -> None:
    output, _ = finished
    run = load_run(output / "main" / "model-tiny")
    drawn = read_samples(lineage.corpus(run).folder / "shards")
    kept = read_samples(lineage.corpus(run).folder / "corpus.parquet")
    assert len(drawn) == 12
    ids = {
        sample.prompt_id: (sample.prompt_token_ids, sample.completion_token_ids) for sample in drawn
    }
    for sample in kept:
        assert sample.training_ids() == ids[sample.prompt_id]


@pytest.mark.slow
@pytest.mark.usefixtures("other")
def test_every_stage_command_of_the_readme_runs_on_finished_runs(
    finished: tuple[Path, str], tmp_path: Path
) -> None:
    # The driver has started each stage that had something to do by the same command.
    output, _ = finished
    report = output / "main" / "model-tiny" / "report.html"
    report.unlink()
    (tmp_path / "outputs").symlink_to(output)
    row = read_jsonl(packaged_file("humaneval"))[0]
    answer = {"task_id": row["task_id"], "completion": row["canonical_solution"]}
    (tmp_path / "samples.jsonl").write_text(json.dumps(answer))
    offline = [line for line in STAGES if "lm_eval" not in line]  # test_harness.py has a task here
    for line in offline:
        line = line.replace("MODEL", "outputs/main/defaults").replace("/defaults", "/model-tiny")
        words = [sys.executable, "-m", *shlex.split(line)]
        done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, f"{line}: {done.stderr}"
    assert report.is_file()


def test_a_corpus_of_another_tokenizer_is_refused(
    finished: tuple[Path, str], tmp_path: Path
) -> None:
    output, _ = finished
    (corpus,) = artifacts(output)["corpus"]
    copy = tmp_path / "corpus"
    copy.mkdir()
    manifest = read_manifest(corpus)
    manifest["inputs"]["tokenizer"] = "another"
    manifest["fingerprint"] = fingerprint(manifest["inputs"])
    (copy / "manifest.json").write_text(json.dumps(manifest))
    for setting in ("train.corpus", "analyse.probe"):
        printed = train_py(output, f"{setting}={copy}", code=REPORTED)
        assert f"error: {setting}={copy} was made with another tokenizer" in printed


@pytest.mark.slow
def test_an_existing_corpus_trains_without_sampling(
    finished: tuple[Path, str], tmp_path: Path
) -> None:
    output, _ = finished
    (corpus,) = artifacts(output)["corpus"]
    printed = train_py(
        tmp_path / "out",
        f"train.corpus={corpus}",
        "stages=[sample,train]",
        "train.max_steps=2",
        "logger=none",
    )
    assert re.search(r"sample +up to date", printed)
    assert (tmp_path / "out" / "store" / "checkpoint").is_dir()


def test_a_report_older_than_its_analysis_is_written_again(make_run: Callable[..., Run]) -> None:
    run = make_run("stages=[analyse,report]")
    for age, name in ((30, "scores.json"), (20, "report.html")):
        (run.folder / name).write_text("{}")
        os.utime(run.folder / name, (time.time() - age,) * 2)
    assert is_current(run, "report") and not is_current(run, "analyse")
    analysis = evidence.analysis(run, evidence.reported_steps(run))
    with analysis.writing():
        analysis.finish(started=time.time(), counts={})
    assert is_current(run, "analyse") and not is_current(run, "report")
    link_artifacts(run)
    assert (run.folder / "analysis" / "manifest.json").is_file()
    os.utime(run.folder / "report.html", (time.time() + 10,) * 2)
    assert is_current(run, "report")


def test_scores_with_other_intervals_are_made_anew(make_run: Callable[..., Run]) -> None:
    run = make_run("stages=[evaluate]")
    scores = Scores(
        inputs=evidence.score_inputs(run), sandbox="namespaces", resample="problems",
        intervals=INTERVALS, selection=None, benchmarks=(),
    )  # fmt: skip
    for intervals, current in ((INTERVALS, True), ("other", False), (None, False)):
        write_scores(run.folder, dataclasses.replace(scores, intervals=intervals))
        assert is_current(run, "evaluate") is current


def test_scores_of_another_layout_are_made_anew(make_run: Callable[..., Run]) -> None:
    run = make_run("stages=[evaluate]")
    (run.folder / "scores.json").write_text('{"version": 1}')
    assert not is_current(run, "evaluate")


def test_no_sample_left_after_filters_stops_with_the_remedy(tmp_path: Path) -> None:
    one_token = (
        "sampler.max_new_tokens=1",
        "sampler.filters=[empty,stub]",
        "sampler=transformers",
        "data.limit=3",
        "stages=[sample]",
        "logger=none",
    )
    printed = train_py(tmp_path / "out", *one_token, code=REPORTED)
    assert "error: no sample is left after sampler.filters" in printed
    assert not list((tmp_path / "out").glob("store/*/*/manifest.json"))


def test_a_prompt_longer_than_the_model_takes_is_named(tmp_path: Path) -> None:
    settings = ("sampler.max_model_len=200", "stages=[sample]", "logger=none")
    printed = train_py(tmp_path / "out", *settings, code=REPORTED)
    assert re.search(
        r"error: prompt mbpp/\d+ has \d+ tokens, sampler.max_model_len is 200", printed
    )
    too_long = train_py(tmp_path / "out", "sampler.max_model_len=9000", code=REPORTED)
    assert "sampler.max_model_len=9000 exceeds the 8192 tokens that tiny takes" in too_long


def test_a_full_disk_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ssd.artifacts.files import require_space
    from ssd.errors import ArtifactError

    with pytest.raises(ArtifactError, match="free some, or set output_dir=OTHER_FOLDER"):
        require_space(tmp_path, 2**60, "training")


@pytest.mark.slow
def test_a_killed_sampling_loses_one_shard_and_training_resumes(tmp_path: Path) -> None:
    output = tmp_path / "out"
    settings = ("data.limit=24", "sampler.shard_size=2", "sampler.max_new_tokens=64",
                "logger=none", "stages=[sample,train]", "train.max_steps=60",
                "train.checkpoint_every=2")  # fmt: skip

    def kill_when(pattern: str) -> None:
        process = subprocess.Popen(command(output, *settings), cwd=ROOT, start_new_session=True)
        deadline = time.monotonic() + 240
        while (
            not list(output.glob(pattern))
            and process.poll() is None
            and time.monotonic() < deadline
        ):
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, f"finished before {pattern} was seen"

    kill_when("store/corpus/*/shards/00002.parquet")
    (corpus,) = artifacts(output)["corpus"]
    survived = read_samples(corpus / "shards")
    assert 6 <= len(survived) < 24
    assert not (corpus / "manifest.json").exists()

    kill_when("store/checkpoint/*/checkpoints/step-*")
    finished = read_samples(corpus / "shards")
    assert all(sample in finished for sample in survived)
    assert verify(corpus) == []

    printed = train_py(output, *settings)
    assert re.search(r"sample +up to date", printed)
    assert "training: resuming from" in printed
    (checkpoint,) = artifacts(output)["checkpoint"]
    steps = [
        json.loads(line)["step"] for line in (checkpoint / "metrics.jsonl").read_text().splitlines()
    ]
    assert steps == list(range(61))  # 0 is before training


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("devices", [1, 2])
def test_a_driver_that_is_ended_at_random_moments_of_its_training_loses_nothing(
    tmp_path: Path, number: signal.Signals, devices: int
) -> None:
    settings = ("data.limit=16", "sampler=transformers", "sampler.max_new_tokens=16",
                "logger=none", "stages=[sample,train]", "train.max_steps=40",
                "train.checkpoint_every=1", f"hardware.devices={devices}")  # fmt: skip
    train_py(tmp_path / "whole", *settings)
    (whole,) = artifacts(tmp_path / "whole")["checkpoint"]
    output, random = tmp_path / "out", Random(number * devices)
    shutil.copytree(tmp_path / "whole" / "store" / "corpus", output / "store" / "corpus")

    def done() -> int:
        return max(map(done_steps, output.glob("store/checkpoint/*")), default=0)

    for attempt in range(3):
        mark, before = f"{tmp_path}-{attempt}", done()
        driver = subprocess.Popen(
            command(output, *settings), cwd=ROOT, env=os.environ | {MARK: mark},
            stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        drawn = wait_for_moment(random, 40, done, lambda: driver.poll() is None)  # noqa: B023
        print(f"signal {number}, {devices} processes, attempt {attempt}: {drawn}", flush=True)
        if number is signal.SIGKILL:
            ignored(driver.pid, number)
        elif done() > before:  # else libraries are still imported; a terminal tells the group
            os.killpg(driver.pid, number)
        _, printed = driver.communicate(timeout=240)
        require_none_left(mark)
        assert number is signal.SIGKILL or "Traceback" not in printed, printed
    train_py(output, *settings)
    (checkpoint,) = artifacts(output)["checkpoint"]
    assert verify(checkpoint) == []
    for name in ("model/model.safetensors", "model/config.json"):
        assert (checkpoint / name).read_bytes() == (whole / name).read_bytes()
    mine, expected = (
        [
            (line["step"], line.get("train/loss"), line.get("train/grad_norm"))
            for line in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
        ]
        for folder in (checkpoint, whole)
    )
    assert mine == expected


def test_a_killed_pipeline_takes_its_stage_along(tmp_path: Path) -> None:
    settings = (
        "data.limit=200",
        "sampler.max_new_tokens=128",
        "stages=[sample]",
        "logger=none",
        "sampler=transformers",
        "sampler.shard_size=4",
    )
    process = subprocess.Popen(command(tmp_path / "out", *settings), cwd=ROOT)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    deadline = time.monotonic() + 120
    while (
        not list((tmp_path / "out").glob("store/corpus/*/shards/*")) and time.monotonic() < deadline
    ):
        time.sleep(0.05)
    stages = children.read_text().split()
    assert stages
    process.kill()
    process.wait()
    while any(Path(f"/proc/{pid}").exists() for pid in stages) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(Path(f"/proc/{pid}").exists() for pid in stages)


@pytest.mark.slow
def test_a_sweep_shares_what_it_can_and_ends_with_a_table(tmp_path: Path) -> None:
    output = tmp_path / "out"
    settings = (
        "study=temps", "eval.benchmarks=[mbpp]", "logger=none", "train.max_steps=2",
        "sampler=transformers", "stages=[sample,train,evaluate]",
    )  # fmt: skip
    printed = train_py(output, "-m", "optimizer.lr=1e-3,1e-4", *settings)
    found = artifacts(output)
    counts = {kind: len(folders) for kind, folders in found.items()}
    assert counts == {
        "corpus": 1,
        "checkpoint": 2,
        "generations": 3,
        "verdicts": 3,
    }  # one corpus and one base for both
    runs = sorted(path.parent.name for path in (output / "temps").glob("*/config.yaml"))
    assert len(runs) == 2
    assert all("optimizer.lr-" in name for name in runs)
    study = (output / "temps" / "study.md").read_text()
    for name in runs:
        assert name in study
    assert "mbpp tuned" in printed.rpartition("code ran isolated by")[2]  # the study's own table


def test_the_default_run_is_the_laptop_model() -> None:
    config = compose_config()
    assert config.model.name == "HuggingFaceTB/SmolLM2-135M-Instruct"
    assert config.data.name == "mbpp"
    assert config.eval.benchmarks == ["humaneval", "mbpp"]


def test_a_sweep_preset_makes_a_run_per_value(tmp_path: Path) -> None:
    train_py(tmp_path / "out", "sweep=t_train", "study=preset", "stages=[report]")
    runs = [path.parent.name for path in (tmp_path / "out" / "preset").glob("*/config.yaml")]
    assert len(runs) == 3
    assert sorted(re.findall(r"sampler.temp-([\d.]+)", " ".join(runs))) == ["0.8", "1.2", "1.6"]


@pytest.mark.slow
def test_apple_release_trains_on_chat_messages_of_plain_text_samples(tmp_path: Path) -> None:
    output = tmp_path / "out"
    settings = ("experiment=apple_release", "sampler=transformers", "logger=none")
    train_py(output, *settings, "stages=[sample,train]", "train.max_steps=2")
    (corpus,) = artifacts(output)["corpus"]
    kept = read_samples(corpus / "corpus.parquet")
    assert kept
    for sample in kept:
        prompt, completion = sample.training_ids()
        assert len(prompt) > len(sample.prompt_token_ids)  # the chat template came around it
        assert prompt != sample.prompt_token_ids
        assert len(completion) <= len(sample.completion_token_ids)
    (checkpoint,) = artifacts(output)["checkpoint"]
    counts = json.loads((checkpoint / "manifest.json").read_text())["counts"]
    assert counts["num_loss_tokens"] == sum(len(one.training_ids()[1]) for one in kept)


@pytest.mark.slow
def test_controls_are_trained_chosen_and_compared_and_a_killed_generation_goes_on(
    tmp_path: Path,
) -> None:
    output = tmp_path / "out"
    settings = (
        "sampler=transformers", "experiment=controls", "eval=humaneval", "eval.temps=[0.4,0.9]",
        "eval.limit=24", "eval.shard_size=4", "eval.regression=[mbpp]", "logger=none",
    )  # fmt: skip
    first = subprocess.Popen(command(output, *settings), cwd=ROOT, stdout=subprocess.DEVNULL)
    pattern = f"ssd.evaluate.generate {output}/main/.* t1"
    deadline = time.monotonic() + 600
    while subprocess.run(["pkill", "-KILL", "-f", pattern], check=False).returncode:
        assert first.poll() is None and time.monotonic() < deadline
        time.sleep(0.5)
    assert first.wait() == REPORTED

    printed = train_py(output, *settings)
    assert re.search(r"sample +up to date", printed)
    assert re.search(r"train t1 +up to date", printed)
    assert {kind: len(found) for kind, found in artifacts(output).items()}["checkpoint"] == 2
    (run,) = (output / "main").iterdir()
    scores = json.loads((run / "scores.json").read_text())
    one = scores["benchmarks"]["humaneval"]
    assert list(one["models"]) == ["base", "base_swept", "base_same_decoding", "t1", "tuned"]
    assert one["num_problems"] + len(scores["selection"]["problems"]["humaneval"]) == 24
    assert scores["benchmarks"]["mbpp"]["regression"]
    assert "held-out problems" in (run / "report.md").read_text()
    assert "starts" not in train_py(output, *settings)


def damage_each(path: Path, random: Random) -> Iterator[str]:
    """The file cut short, and with one bit flipped, one after the other; whole again at the end."""
    whole, times = path.read_bytes(), itertools.count(time.time_ns(), 10**9)
    place = random.randrange(len(whole) - 1)  # without its last newline, a JSON file is whole
    flipped = bytearray(whole)
    flipped[place] ^= 1 << random.randrange(8)
    for name, content in (("cut", whole[:place]), (f"flipped at {place}", bytes(flipped))):
        path.write_bytes(content)
        os.utime(path, ns=(next(times),) * 2)  # a clock's tick is longer than this loop
        yield name
    path.write_bytes(whole)
    os.utime(path, ns=(next(times),) * 2)


def refusal(read: Callable[[], object]) -> str:
    """What a reader says of damage; empty where it says nothing."""
    try:
        facts = read()
    except ArtifactError as error:
        return str(error)
    return " ".join(facts.missing) if isinstance(facts, Facts) else ""


def test_a_bit_that_flips_in_any_file_of_any_artifact_is_found_and_named(
    finished: tuple[Path, str],
) -> None:
    output, _ = finished
    run, random = load_run(output / "main" / "model-tiny"), Random(0)
    (job,) = (job for job in list_jobs(run, "tuned") if job.benchmark == "humaneval")
    readers: dict[str, Callable[[], object]] = {
        "corpus": lambda: lineage.require_unchanged(lineage.corpus(run)),
        "model": lambda: lineage.require_model(run, "tuned"),
        "metrics.jsonl": lambda: collect(run.folder, read_positions=False),
        "generations": lambda: job.generations(run).intact("shards/"),
        "verdicts": lambda: build_scores(run, None),
        "analysis": lambda: collect(run.folder),
    }
    files = {
        "corpus": [lineage.corpus(run).folder / "corpus.parquet"],
        "model": sorted((lineage.checkpoint(run).folder / "model").glob("*[!d]")),  # but the card
        "metrics.jsonl": [lineage.checkpoint(run).folder / "metrics.jsonl"],
        "generations": sorted((job.generations(run).folder / "shards").iterdir()),
        "verdicts": [job.verdicts(run).folder / "verdicts.parquet"],
        "analysis": sorted(artifacts(output)["analysis"][0].glob("[!m.]*")),  # but the manifest
    }
    for reader, paths in files.items():
        assert refusal(readers[reader]) == "" and paths
        for path in paths:
            for how in damage_each(path, random):
                assert path.name in refusal(readers[reader]), (path, how)
        assert refusal(readers[reader]) == ""


def test_verify_finds_any_bit_of_any_file(finished: tuple[Path, str]) -> None:
    output, _ = finished
    random = Random(1)
    for folder in itertools.chain(*artifacts(output).values()):
        for name in [*read_manifest(folder)["files"], MANIFEST]:
            for how in damage_each(folder / name, random):
                assert any(name in fault for fault in verify(folder)), (folder, name, how)
        assert verify(folder) == []


def test_every_flipped_bit_of_a_sealed_file_changes_nothing_or_is_refused(
    finished: tuple[Path, str],
) -> None:
    output, _ = finished
    random, scores = Random(2), output / "main" / "model-tiny" / "scores.json"
    for path in (artifacts(output)["verdicts"][0] / MANIFEST, scores):
        whole, content = path.read_bytes(), read_sealed(path, "")
        for place in {*random.sample(range(len(whole)), 300), *digest_places(whole)}:
            flipped = bytearray(whole)
            flipped[place] ^= 1 << random.randrange(8)
            path.write_bytes(bytes(flipped))
            try:
                assert read_sealed(path, "") == content, place
            except ArtifactError as error:
                assert path.name in str(error)
        path.write_bytes(whole)


def digest_places(whole: bytes) -> range:
    """Where a sealed file says its digest, its name included."""
    start = whole.rindex(b'"digest"')
    return range(start, len(whole))
