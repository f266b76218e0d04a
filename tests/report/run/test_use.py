"""Where the trained model is said to lie, and whether the lines that use it work."""

import json
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from checkpoints import change_json
from run_folders import BETTER, UNDECIDED, benchmark_scores, make_run, write_scores

from ssd import load_results
from ssd.artifacts.store import verify
from ssd.drive.pipeline import link_artifacts
from ssd.method.decoding import Decoding
from ssd.models import Weights
from ssd.models.chat import configured_ends
from ssd.report.exports.card import write_cards
from ssd.report.run.facts import collect
from ssd.report.run.sections import document
from ssd.report.run.serving import Usable, generation_config
from ssd.report.run.use import last_screen, use
from ssd.run import Run, lineage

HOW = Decoding(0.9, 20, 0.8)
DEFAULTS = {"temperature": 0.7, "top_k": 20, "top_p": 0.8}
"""The decoding of the scores that `benchmark_scores` writes."""


def trained(folder: Path, part: str, *overrides: str) -> Run:
    """A run whose training has ended, its export in `part`."""
    run = make_run(folder, "first", "eval.benchmarks=[humaneval]", "logger=none", *overrides)
    (lineage.checkpoint(run).folder / part).mkdir()
    link_artifacts(run)
    return run


def option(words: list[str], name: str) -> str:
    return words[words.index(name) + 1]


def test_a_run_without_evaluation_ends_on_its_model_and_the_lines_that_use_it(
    tmp_path: Path,
) -> None:
    run = trained(tmp_path, "model", "stages=[sample,train]", "eval.temp=0.6", "hardware=cpu")
    model, load, serve = last_screen(collect(run.folder)).splitlines()
    folder = run.folder / "checkpoint" / "model"
    assert model == f"model: {folder}"
    assert load_results(run.folder).model == folder
    assert f'from_pretrained("{folder}")' in load
    words = shlex.split(serve.removeprefix("  serve: "))
    assert words[:2] == ["python", "-m"]
    assert option(words, "--kv-cache-memory-bytes") == "1G"
    assert option(words, "--model") == str(folder)
    assert json.loads(option(words, "--override-generation-config"))["temperature"] == 0.6


def test_a_scored_run_ends_on_its_verdict_and_serves_by_the_decoding_of_its_scores(
    tmp_path: Path,
) -> None:
    run = trained(tmp_path, "model")
    write_scores(run, humaneval=benchmark_scores(run, BETTER))
    facts = collect(run.folder)
    verdict, _, _, serve = last_screen(facts).splitlines()
    assert "better on humaneval" in verdict
    words = shlex.split(serve.removeprefix("  serve: "))
    assert json.loads(option(words, "--override-generation-config")) == DEFAULTS
    (section,) = [part for part in document(facts).sections if part.title == "Using the model"]
    assert section == use(facts)[0]
    (path,) = write_cards(facts)
    assert "vllm serve . --override-generation-config" in path.read_text()


def test_an_undecided_run_names_the_command_that_says_what_would_decide(tmp_path: Path) -> None:
    run = trained(tmp_path, "model")
    write_scores(run, humaneval=benchmark_scores(run, UNDECIDED))
    verdict, hint = last_screen(collect(run.folder)).splitlines()[:2]
    assert verdict == "Undecided on humaneval."
    assert f"ssd evaluate power {run.folder} " in hint


def test_an_adapter_is_served_beside_its_base_and_with_room_for_its_rank(tmp_path: Path) -> None:
    run = trained(tmp_path, "adapter", "adapter=lora", "adapter.rank=24", "adapter.merge=false")
    adapter, load, serve = last_screen(collect(run.folder)).splitlines()
    folder = run.folder / "checkpoint" / "adapter"
    assert adapter == f"adapter: {folder}"
    assert "AutoPeftModelForCausalLM" in load
    assert load_results(run.folder).model == folder
    words = shlex.split(serve.removeprefix("  serve: "))
    assert words[:3] == ["vllm", "serve", run.weights.path]
    assert option(words, "--lora-modules") == f"tuned={folder}"
    assert option(words, "--max-lora-rank") == "32"


def test_a_run_that_only_sampled_ends_on_its_corpus(tmp_path: Path) -> None:
    run = make_run(tmp_path, "first", "logger=none", "stages=[sample]")
    shutil.rmtree(lineage.checkpoint(run).folder)
    link_artifacts(run)
    screen = last_screen(collect(run.folder))
    assert screen == f"corpus: {run.folder / 'corpus' / 'corpus.parquet'}"
    assert use(collect(run.folder)) == []


@pytest.mark.parametrize("has_file", [True, False])
def test_a_published_decoding_keeps_what_ends_an_answer(
    tmp_path: Path, tiny_weights: Weights, has_file: bool
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_weights.path, folder)
    ends = configured_ends(folder)
    if has_file:
        change_json(
            folder, "generation_config.json", temperature=0.6, repetition_penalty=1.1, max_length=9
        )
    else:
        (folder / "generation_config.json").unlink()
        change_json(folder, "config.json", eos_token_id=sorted(ends))
    fields = generation_config(folder, HOW)
    (folder / "generation_config.json").write_text(json.dumps(fields))
    assert configured_ends(folder) == ends
    assert (fields["temperature"], fields["top_k"], fields["top_p"]) == (0.9, 20, 0.8)
    assert not {"repetition_penalty", "_from_model_config"} & fields.keys()
    assert fields.get("max_length") == (9 if has_file else None)
    from transformers import GenerationConfig

    read = GenerationConfig.from_pretrained(folder)
    assert (read.do_sample, read.temperature, read.top_k, read.top_p) == (True, 0.9, 20, 0.8)


def test_a_greedy_decoding_is_one_without_sampling(tiny_weights: Weights) -> None:
    fields = generation_config(Path(tiny_weights.path), Decoding(0.0, 20, 0.8))
    assert fields["do_sample"] is False
    assert not {"temperature", "top_k", "top_p"} & fields.keys()
    assert '{"temperature": 0}' in Usable(Path("m"), "b", Decoding(0.0)).serve_line()


@pytest.mark.slow  # vLLM's command takes long to import
@pytest.mark.parametrize("cache_gib", [None, 2])
def test_vllm_knows_every_option_of_the_lines(cache_gib: int | None) -> None:
    pytest.importorskip("vllm")
    from vllm.entrypoints.launchers.cli_args import make_arg_parser
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    words = 2 if cache_gib is None else 3  # before the arguments
    for rank in (None, 64):
        served = Usable(Path("folder"), "base", HOW, rank, cache_gib)
        parser = make_arg_parser(FlexibleArgumentParser())
        read = parser.parse_args(shlex.split(served.serve_line("mine"))[words:])
        assert read.override_generation_config == {"temperature": 0.9, "top_k": 20, "top_p": 0.8}
        model = read.model_tag if cache_gib is None else read.model
        assert model == ("folder" if rank is None else "base")
        assert read.kv_cache_memory_bytes == (None if cache_gib is None else 2**31)
    assert (read.enable_lora, read.max_lora_rank) == (True, 64)
    assert [(each.name, each.path) for each in read.lora_modules] == [("mine", "folder")]


@pytest.mark.slow  # vLLM's server starts: a minute
def test_the_line_serves_a_model_by_its_decoding(tiny_weights: Weights, tmp_path: Path) -> None:
    pytest.importorskip("vllm")
    folder = tiny_weights.path
    line = Usable(Path(folder), "base", Decoding(0.0), cpu_cache_gib=1).serve_line()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path / "server.log"
    words = [sys.executable, *shlex.split(line)[1:], "--host", "127.0.0.1", "--port", str(port)]
    with (
        log.open("w") as output,
        subprocess.Popen(words, stdout=output, stderr=subprocess.STDOUT) as server,
    ):
        try:
            while b"startup complete" not in log.read_bytes():
                assert server.poll() is None, log.read_text()
                time.sleep(1)
            ask = {"model": folder, "prompt": "one two three", "max_tokens": 8}
            request = urllib.request.Request(
                f"http://127.0.0.1:{port}/v1/completions",
                json.dumps(ask).encode(),
                {"Content-Type": "application/json"},
            )
            answers = set()
            for _ in range(3):  # greedy, though no request says so
                with urllib.request.urlopen(request) as answer:
                    answers.add(json.load(answer)["choices"][0]["text"])
        finally:
            server.send_signal(signal.SIGINT)
    assert len(answers) == 1


def test_the_checkpoint_in_the_store_stays_as_its_manifest_says(tmp_path: Path) -> None:
    run = trained(tmp_path, "model")
    write_cards(collect(run.folder))
    last_screen(collect(run.folder))
    assert verify(lineage.checkpoint(run).folder) == []
