"""Training on a CPU that other programs use too, against the same training alone, in one run.

    python benchmarks/busy.py                       the packaged SmolLM2-135M
    python benchmarks/busy.py --model FOLDER --rounds 3 --seq-len 1024

Each round trains the same few steps with every setting, first alone and then beside a program per
core that never waits; each time in a process of its own:
  spinning  as OpenMP does by itself: a thread per core, and whoever waits keeps its core
  passive   a thread per core, and whoever waits sleeps at once (OMP_WAIT_POLICY=passive)
  ours      as the pipeline starts a stage: `spinning` where all cores are free, otherwise passive,
            with as many threads as there are free cores

Tokens/s counts prompt and completion tokens without the first step; a line is the median of its
rounds. `others` is how many cores other programs than these kept busy just before a training, the
most of all rounds: alone counts only where that is near 0.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from train import ROOT, make_samples, run_contestant

sys.path.insert(0, str(ROOT / "tests"))  # compose_config

SETTINGS: dict[str, dict[str, str] | None] = {
    "spinning": {},
    "passive": {"OMP_WAIT_POLICY": "passive"},
    "ours": None,
}
BUSY = "import os; parent = os.getppid()\nwhile os.getppid() == parent: pass"
"""Ends with the process that started it, however that ends."""
VARIABLES = ("OMP_WAIT_POLICY", "OMP_NUM_THREADS", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""What would change every line; taken out of the environment."""


def main() -> None:
    from runs import compose_config

    from ssd.models.fetch import fetch
    from ssd.runtime.threads import busy_cores

    arguments = parse_arguments()
    arguments.model = str(arguments.model or fetch(compose_config().model).path)
    for name in VARIABLES:
        os.environ.pop(name, None)
    speeds: dict[tuple[str, bool], list[float]] = {}
    others: dict[tuple[str, bool], list[float]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "samples.json"
        data.write_text(json.dumps(make_samples(arguments.model, arguments)))
        for _ in range(arguments.rounds):
            for beside in (False, True):
                for name, threads in SETTINGS.items():
                    others.setdefault((name, beside), []).append(busy_cores(2.0))
                    with busy_programs((os.cpu_count() or 1) if beside else 0):
                        figures = run_contestant("ours", data, arguments, threads)
                    speeds.setdefault((name, beside), []).append(figures["tokens_per_second"])
                    print(f"{name}, {beside=}: {figures}", file=sys.stderr, flush=True)
    print_table(speeds, others)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="checkpoint folder; the packaged model by default")
    parser.add_argument("--rounds", type=int, default=2, help="how often all is done (default 2)")
    parser.add_argument("--steps", type=int, default=4, help="optimizer steps (default 4)")
    parser.add_argument("--seq-len", type=int, default=512, help="tokens per row (default 512)")
    parser.set_defaults(device="cpu", batch=8, completion_tokens=180)  # what train.py reads too
    return parser.parse_args()


@contextlib.contextmanager
def busy_programs(number: int) -> Iterator[None]:
    """So many programs that never wait."""
    with contextlib.ExitStack() as stack:
        for _ in range(number):
            # A session of its own, as a program of another terminal or desktop window has: Linux
            # shares the cores between sessions first. Within one, more threads get more of them.
            program = subprocess.Popen([sys.executable, "-c", BUSY], start_new_session=True)
            stack.callback(program.wait)
            stack.callback(program.kill)
        yield


def print_table(
    speeds: dict[tuple[str, bool], list[float]], others: dict[tuple[str, bool], list[float]]
) -> None:
    """One line per setting and company, ratios against `spinning` in the same company."""
    print(f"\n{'':10} {'beside it':>10} {'tok/s':>7} {'ratio':>6} {'others':>7}")
    for (name, beside), values in speeds.items():
        reference = statistics.median(speeds["spinning", beside])
        company = f"{os.cpu_count()} busy" if beside else "nothing"
        print(
            f"{name:10} {company:>10} {statistics.median(values):7.1f} "
            f"{statistics.median(values) / reference:6.2f} {max(others[name, beside]):7.2f}"
        )


if __name__ == "__main__":
    main()
