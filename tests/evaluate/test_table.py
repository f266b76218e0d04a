"""The plain-text table, as people see it."""

import subprocess
import sys

from ssd.evaluate.table import score_table

MODEL = {
    "mean_tokens": 310.2,
    "fence_share": 0.98,
    "cut_share": 0.0208,
    "statuses": {"passed": 3},
    "temp": 0.7,
}
SCORES = {
    "version": 1,
    "sandbox": "namespaces",
    "benchmarks": {
        "humaneval": {
            "num_problems": 24,
            "num_samples": 2,
            "split": "test",
            "models": {
                "base": {"pass@1": {"value": 0.125, "low": 0.04166, "high": 0.25}, **MODEL},
                "tuned": {"pass@1": {"value": 0.1666, "low": 0.0625, "high": 0.3125}, **MODEL},
            },
            "difference": {
                "pass@1": {"value": 0.04166, "low": -0.0833, "high": 0.1666, "p_value": 0.6249}
            },
        },
        "mbpp": {
            "num_problems": 500,
            "num_samples": 1,
            "split": "test",
            "models": {"base": {"pass@1": {"value": 0.5, "low": 0.45, "high": 0.55}, **MODEL}},
        },
    },
}
EXPECTED = """\
benchmark  model       pass@1                     tokens  fenced  cut
---------------------------------------------------------------------
humaneval  base        12.5 [4.2, 25.0]           310     98%     2%
           tuned       16.7 [6.2, 31.2]           310     98%     2%
           difference  +4.2 [-8.3, +16.7] p=0.62
mbpp       base        50.0 [45.0, 55.0]          310     98%     2%
percent with 95 % intervals over problems; humaneval 24 problems x 2 answers, \
mbpp 500 problems x 1 answers
tokens: mean answer length; fenced: answers with a code block; \
cut: answers stopped by the length cap
code ran isolated by Linux namespaces"""


def test_the_table_shows_scores_intervals_and_differences() -> None:
    assert score_table(SCORES) == EXPECTED


def test_code_that_ran_without_isolation_is_called_that() -> None:
    assert score_table({**SCORES, "sandbox": "process"}).endswith(
        "code ran not isolated (eval.sandbox=none)"
    )


def test_neither_the_table_nor_the_stage_imports_torch_or_vllm() -> None:
    program = "import sys, ssd.evaluate.{}; print([name for name in {} if name in sys.modules])"
    for module, absent in (
        ("table", ["numpy", "torch"]),
        ("evaluation", ["torch", "vllm", "transformers"]),
    ):
        command = [sys.executable, "-c", program.format(module, absent)]
        assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"
