"""How memory and time grow with a corpus: python benchmarks/scale.py --records 10000 100000.

Simulated answers go from shards to the first steps of training, each phase in a process of its own:

    corpus   shards -> filters -> corpus.parquet in its order -> manifest with all hashes
    plan     the lengths that a plan and a training rest on
    rank     one rank of several: examples, live samples, then packed rows of its first steps

No model is loaded and nothing is drawn. Ids are drawn from a small vocabulary, a byte each once
compressed, or less with --repeat; text repeats itself. So files are smaller than a real corpus's,
and sooner read; memory is not smaller. Peaks are
the process's resident memory, of which some 0.3 GiB are Python, torch and Arrow.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

PHASES = ("corpus", "plan", "rank")
IDS = (1000, 1200)
"""From and to. Of numbers below 257 Python keeps one object each: lists of them look too small."""
SEQ_LEN = 65_536


def main() -> None:
    """Command line of this program."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--records", type=int, nargs="+", default=[10_000], help="samples")
    parser.add_argument("--tokens", type=int, default=3000, help="mean tokens of an answer")
    parser.add_argument("--prompt", type=int, default=300, help="tokens of a prompt")
    parser.add_argument("--repeat", type=int, default=1, help="how often an id comes in a row")
    parser.add_argument("--shard", type=int, default=64, help="samples of a shard")
    parser.add_argument("--batch", type=int, default=32, help="samples of a step")
    parser.add_argument("--ranks", type=int, default=8, help="processes of the training")
    parser.add_argument("--steps", type=int, default=20, help="steps that the rank packs")
    parser.add_argument("--folder", type=Path, help="where to work (default: a temporary one)")
    parser.add_argument("--phase", choices=PHASES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.phase is not None:
        print(json.dumps(measured(arguments)))
        return
    print(
        "| records | phase | seconds | CPU seconds | peak GiB | more |\n|---|---|---|---|---|---|"
    )
    for records in arguments.records:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            make_shards(corpus_artifact(Path(folder)).folder / "shards", records, arguments)
            for phase in PHASES:
                print_row(records, phase, in_process(phase, folder, arguments))


def in_process(phase: str, folder: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """What a phase measured."""
    sizes = ("repeat", "tokens", "prompt", "batch", "ranks", "steps")
    options = [f"--{name}={getattr(arguments, name)}" for name in sizes]
    command = [sys.executable, __file__, f"--phase={phase}", f"--folder={folder}", *options]
    ended = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    facts: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return facts


def print_row(records: int, phase: str, facts: dict[str, Any]) -> None:
    """A line of the table."""
    more = ", ".join(f"{name} {value:,}" for name, value in facts["more"].items())
    times, peak = f"{facts['seconds']:,.1f} | {facts['cpu']:,.1f}", facts["peak_gib"]
    print(f"| {records:,} | {phase} | {times} | {peak:.2f} | {more} |", flush=True)


def make_shards(folder: Path, records: int, arguments: argparse.Namespace) -> None:
    """Answers in no order, as an engine would leave them."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    numbers = rng.permutation(records)
    for start in range(0, records, arguments.shard):
        table = answers(numbers[start : start + arguments.shard], rng, arguments)
        path = folder / f"{start // arguments.shard:05d}.parquet"
        pyarrow.parquet.write_table(table, path, compression="zstd")


def answers(numbers: Any, rng: np.random.Generator, arguments: argparse.Namespace) -> Any:
    """Samples with these numbers, their lengths spread evenly around the mean."""
    count, mean = len(numbers), arguments.tokens
    lengths = rng.integers(mean // 2, mean + mean // 2, count)
    columns = {
        "prompt_id": [f"problem/{number}" for number in numbers],
        "sample_index": np.zeros(count, dtype=np.int64),
        "seed": numbers,
        "prompt_token_ids": id_lists(np.full(count, arguments.prompt), rng, arguments.repeat),
        "completion_token_ids": id_lists(lengths, rng, arguments.repeat),
        "text": ["total += value\n" * (int(length) // 4) for length in lengths],
        "finish_reason": ["stop"] * count,
    }
    for prefix in ("logprobs", "topk_token_ids", "topk_logprobs"):
        columns[prefix] = pyarrow.nulls(count)
    for name in ("train_prompt_token_ids", "train_completion_token_ids"):
        columns[name] = pyarrow.nulls(count)
    return pyarrow.table(columns)


def id_lists(lengths: Any, rng: np.random.Generator, repeat: int) -> Any:
    """A column of lists of these lengths."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    ids = rng.integers(*IDS, -(-int(offsets[-1]) // repeat)).repeat(repeat)
    return pyarrow.ListArray.from_arrays(offsets, ids[: offsets[-1]])


def corpus_artifact(folder: Path) -> Any:
    """The artifact that the phases share."""
    from ssd.artifacts.store import artifact

    return artifact(folder / "store", "corpus", {"simulated": True})


def measured(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run a phase in this process: its seconds, its cores' seconds and its peak, with imports."""
    run = {"corpus": run_corpus, "plan": run_plan, "rank": run_rank}[arguments.phase]
    started = time.monotonic()
    more = run(arguments)
    seconds = time.monotonic() - started
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "seconds": seconds,
        "cpu": usage.ru_utime + usage.ru_stime,
        "peak_gib": peak_gib(),
        "more": more,
    }


def peak_gib() -> float:
    """The most that this process has held; `ru_maxrss` would count the process that started it."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 2**20


def run_corpus(arguments: argparse.Namespace) -> dict[str, Any]:
    """From shards to a finished corpus."""
    from ssd.records.tables import read_texts
    from ssd.sample.corpus import write_corpus
    from ssd.sample.filters import apply_filters, measure

    started, corpus = time.time(), corpus_artifact(arguments.folder)
    with corpus.writing() as folder:
        keep, _ = apply_filters(measure(read_texts(folder / "shards")), ["empty", "stub"])
        counts = write_corpus(folder, keep)
        corpus.finish(started=started, counts=counts)
    size = (folder / "corpus.parquet").stat().st_size
    return {"tokens": counts["num_tokens"], "MiB": size // 2**20}


def run_plan(arguments: argparse.Namespace) -> dict[str, Any]:
    """The lengths of a finished corpus."""
    from ssd.config.choices import LongSamples
    from ssd.plan.workload import corpus_lengths

    lengths = corpus_lengths(corpus_artifact(arguments.folder), SEQ_LEN, LongSamples.error)
    return {"longest": int(max(lengths))}


def run_rank(arguments: argparse.Namespace) -> dict[str, Any]:
    """The first steps of one rank."""
    from ssd.config.choices import LongSamples, Norm
    from ssd.config.settings import AnalyseConfig
    from ssd.records.stored import StoredSamples
    from ssd.train.data import Steps
    from ssd.train.examples import make_examples
    from ssd.train.live import choose

    folder = corpus_artifact(arguments.folder).folder
    samples = StoredSamples(folder / "corpus.parquet")
    examples, _ = make_examples(samples, SEQ_LEN, LongSamples.error, 151_936)
    choose(examples, AnalyseConfig())
    steps = Steps(
        examples, batch_size=arguments.batch, micro_batch_tokens=16_384, packing=True,
        norm=Norm.token, seed=0, max_steps=arguments.steps, rank=0, world_size=arguments.ranks,
    )  # fmt: skip
    started = time.process_time()
    num_rows = sum(len(step.micro_batches) for step in steps)
    each = (time.process_time() - started) / arguments.steps
    return {"rows": num_rows, "CPU ms a step": round(1000 * each, 1)}


if __name__ == "__main__":
    main()
