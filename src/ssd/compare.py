"""One model of several runs, paired by problem: the first run minus each of the others.

    ssd compare RUN_DIR RUN_DIR [RUN_DIR ...]

A run's own scores compare its arms; this compares runs, such as two training temperatures. The
intervals and p-values are those of a run's scores (docs/statistics.md).
"""

from collections.abc import Sequence
from pathlib import Path

from ssd.arms import RESAMPLED, TUNED
from ssd.errors import ConfigError
from ssd.evaluate.paired import paired_runs
from ssd.evaluate.table import arm_block, wrapped
from ssd.method.significance import visible_sentence
from ssd.records.benchmark_scores import BenchmarkScores
from ssd.report.render import formats
from ssd.report.study.collection import run_names
from ssd.report.study.rows import short_names
from ssd.run import load_run
from ssd.runtime.command_line import command_line
from ssd.runtime.reporting import reporting_errors


def compare(folders: Sequence[Path], arm: str, benchmark: str | None) -> str:
    """The table that the command prints.

    Raises:
        ConfigError: fewer than two runs, or one of them twice.
        ArtifactError: a run has no scores, not of this arm, or the runs share no benchmark.
        DataError: they answered different problems, or were graded differently.
    """
    if len({folder.resolve() for folder in folders}) != len(folders) or len(folders) < 2:
        raise ConfigError("compare takes two run folders or more, each once")
    names = short_names(list(run_names(folders).values()))
    compared = paired_runs(dict(zip(names, folders, strict=True)), arm, benchmark)
    resample = load_run(folders[0]).config.eval.resample
    notes = [
        *(length_note(names[0], scored) for scored in compared),
        *(visible_note(scored) for scored in compared),
        f"{arm} of each run; percent with 95 % intervals {RESAMPLED[resample.value]}; "
        "differences are paired by problem, in points; p-values are not adjusted for their number",
    ]
    return "\n".join([arm_block(compared, reference=names[0]), "", wrapped(notes)])


def length_note(first: str, scored: BenchmarkScores) -> str:
    """How much longer the first run's answers are, in a sentence."""
    changes = [
        f"{formats.tokens(change.mean_tokens)} tokens longer than those of {name}"
        for name, change in scored.comparisons.items()
    ]
    return f"{scored.name}: mean answers of {first} are {', '.join(changes)}"


def visible_note(scored: BenchmarkScores) -> str:
    """What these answers could show of each other run, in a sentence."""
    size, k = (scored.num_problems, scored.num_samples), scored.k
    sentences = []
    for name, comparison in scored.comparisons.items():
        change = comparison.pass_at[k]
        sentences.append(f"against {name} {visible_sentence(change.low, change.high, *size, k)}")
    return f"{scored.name} pass@{k}: {size[0]} x {size[1]} answers {'; '.join(sentences)}"


def main() -> None:
    """Command line of this module."""
    parser = command_line(
        "compare",
        "Compare one model of several runs on their reported problems: the first run minus each "
        "of the others, paired by problem, with intervals and p-values.",
        "outputs/main/sampler.temp-1.6 outputs/main/sampler.temp-1.2",
        "outputs/main/* --benchmark humaneval --arm base",
    )
    parser.add_argument("folders", type=Path, nargs="+", metavar="RUN_DIR",
                        help="run folder with scores.json; two or more")  # fmt: skip
    parser.add_argument("--arm", default=TUNED, metavar="NAME",
                        help="tuned (default), base, or a control that all runs have")  # fmt: skip
    parser.add_argument("--benchmark", metavar="NAME", help="one benchmark; all shared by default")
    options = parser.parse_args()
    with reporting_errors():
        print(compare(options.folders, options.arm, options.benchmark))


if __name__ == "__main__":
    main()
