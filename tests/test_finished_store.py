"""A store and run folder that an earlier version of this project finished: nothing is made again,
and the report has the same numbers.

`tests/golden/finished_store.tar.xz` holds what COMMAND_LINE left before the packages were laid in
layers, under the run folder's old name, without weights, figures and page. OUTPUT_DIR in it stands
for the folder.
"""

import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

from runs import ROOT

from ssd.arms import UNIT
from ssd.artifacts.names import CARD, COMMAND, CONFIG, REPORT_TEXT, RESULTS

STORED = ROOT / "tests" / "golden" / "finished_store.tar.xz"
COMMAND_LINE = [
    "model=tiny", "eval.controls=[base_swept,base_same_decoding,t1]", "eval.temps=[0.6,0.9]",
    "eval.validation_share=0.5", "eval.limit=4", "eval.num_samples=2", "eval.k=[1,2]",
    "eval.max_new_tokens=24", "logger=none",
]  # fmt: skip
PLACE = b"OUTPUT_DIR"
WITH_PLACE = {".json", ".yaml", ".md"}
SINCE = (
    "template_args: {}", "system_role: system", "reasoning: null",
    "url: http://localhost:8000/v1", "served_name: null", "max_concurrency: 512",
    "retry_seconds: 600.0", "offload_activations: false", "replicas: 1",
    "gsm8k: null", "math500: null", "aime: null", "values: null",
    "type: cross_entropy", "temp: null", "truncation: null", "soft_weight: 1.0",
    "special_tokens: true", "tail_threshold: 0.01", "tail_weight: 1.0",
    "schedule: cosine", "decay_steps: null", "keep_optimizer: false",
    "tensorboard: false", "mlflow: false",
)  # fmt: skip
"""Settings that have come since, at their default: lines of a configuration."""
GROUPS_SINCE = re.compile(
    rb"^( *)(?:pool|power|rounds|value_prompt_format|arms):\n(?:\1(?: +|- ).*\n|\n)*",
    re.MULTILINE,
)
"""Groups of settings that have come since: a line, and those further in."""


def unpack(output: Path) -> dict[Path, bytes]:
    """The finished folder at `output`, and what is in its files."""
    with tarfile.open(STORED) as archive:
        archive.extractall(output, filter="data")
    files = [path for path in output.rglob("*") if path.is_file()]
    for path in files:
        if path.suffix in WITH_PLACE:
            path.write_bytes(path.read_bytes().replace(PLACE, str(output).encode()))
    return {path: path.read_bytes() for path in files}


def without_new_settings(text: bytes) -> bytes:
    """Without the lines of `SINCE` and the groups of `GROUPS_SINCE`."""
    lines = GROUPS_SINCE.sub(b"", text).splitlines(keepends=True)
    return b"".join(line for line in lines if line.strip().decode() not in SINCE)


def score_lines(report: bytes) -> list[str]:
    """The rows with scores of a report, without the width of their columns."""
    lines = [re.sub(r" +", " ", line) for line in report.decode().splitlines()]
    return [line for line in lines if re.match(r"\| \w+ pass@", line)]


def without_words(results: bytes) -> object:
    """What results.json holds, without the verdicts' sentences: those are of the version that wrote
    them."""
    return json.loads(results, object_hook=lambda fields: {**fields, "text": None})


def test_a_store_finished_by_an_earlier_version_still_counts(tmp_path: Path) -> None:
    output = tmp_path / "outputs"
    before = unpack(output)
    command = [sys.executable, "train.py", COMMAND_LINE[0], f"output_dir={output}"]
    done = subprocess.run(
        [*command, *COMMAND_LINE[1:]], capture_output=True, text=True, check=False, cwd=ROOT,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    states = dict(re.findall(r"^(\w+(?: t1)?) +(up to date|starts)$", done.stdout, re.MULTILINE))
    assert states.pop("report") == "starts"  # its page is not stored
    assert states == dict.fromkeys(
        ["sample", "train", "train t1", "evaluate", "analyse"], "up to date"
    )
    (run,) = (output / "main").iterdir()  # no folder with the new name beside the old one
    after = {path: path.read_bytes() for path in before}
    for path in (run / CONFIG, run / UNIT / CONFIG):
        after[path] = without_new_settings(after[path])
    assert {run / name for name in (RESULTS, CONFIG, COMMAND)} <= {*after}
    report, results = run / REPORT_TEXT, run / RESULTS
    lines = score_lines(before.pop(report))
    assert lines and score_lines(after.pop(report)) == lines
    assert without_words(after.pop(results)) == without_words(before.pop(results))
    cards = [path for path in before if path.name == CARD]  # with the sentences of the report
    assert cards
    for card in cards:
        del before[card], after[card]
    assert after == before
    stored = {path for path in (output / "store").rglob("*") if path.is_file()}
    assert {path.name for path in stored - {*before, *cards}} <= {".lock"}
