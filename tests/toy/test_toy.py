"""The paper's toy machine (appendix C.4), to the digits it prints."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ssd.errors import ConfigError
from ssd.toy import machine as toy
from ssd.toy.command import main

TUNED = toy.student(toy.teacher(), toy.T_TRAIN, toy.TRAIN_TOP_P)


def test_the_best_teacher_and_the_best_student_are_the_papers() -> None:
    one, other = toy.best(toy.teacher(), 0.8), toy.best(TUNED, 0.8)
    assert (f"{100 * one.success:.2f}", f"{one.temp:.3f}") == ("8.33", "0.639")
    assert (f"{100 * other.success:.2f}", f"{other.temp:.2f}") == ("13.77", "2.09")


def test_the_entropies_are_the_papers() -> None:
    assert f"{toy.entropy_bits(toy.teacher().fork):.2f}" == "2.81"
    assert f"{toy.entropy_bits(toy.teacher().lock):.2f}" == "1.61"


def test_the_gap_curve_spans_what_the_paper_prints() -> None:
    gaps = [
        100 * (toy.best(TUNED, top_p).success - toy.best(toy.teacher(), top_p).success)
        for top_p in toy.TOP_PS
    ]
    assert f"{min(gaps):.2f}" == "1.35"
    assert f"{max(gaps):.2f}" == "5.44"
    assert (toy.TOP_PS[int(np.argmin(gaps))], toy.TOP_PS[int(np.argmax(gaps))]) == (0.9, 0.8)


def test_training_cuts_the_tail_of_locks_and_leaves_forks_several_tokens() -> None:
    assert np.count_nonzero(TUNED.lock) == 2
    assert np.count_nonzero(TUNED.fork) == 5


def test_decoding_the_student_is_decoding_the_teacher_at_the_product_of_temperatures() -> None:
    base = toy.teacher()
    hot = toy.student(base, 1.6, 1.0)
    once = toy.decoded(base.fork, np.array([1.6 * 0.7]), 1.0)
    np.testing.assert_allclose(toy.decoded(hot.fork, np.array([0.7]), 1.0), once, rtol=1e-12)


def test_without_shift_and_truncation_the_student_is_the_teacher() -> None:
    same = toy.student(toy.teacher(), 1.0, 1.0)
    np.testing.assert_allclose(same.lock, toy.teacher().lock)


def test_the_command_prints_the_tables_and_draws_the_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["--out", str(tmp_path / "new")])
    printed = capsys.readouterr().out
    assert "8.33 % at T=0.639  13.77 % at T=2.094  +5.44 points" in printed
    assert "fork   2.81 bits, 16 tokens   2.24 bits,  5 tokens" in printed
    with Image.open(tmp_path / "new" / "toy.png") as image:
        assert min(image.size) > 400
    svg = (tmp_path / "new" / "toy.svg").read_bytes()
    assert b"</svg>" in svg
    main(["--out", str(tmp_path / "again")])
    assert (tmp_path / "again" / "toy.svg").read_bytes() == svg


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--t-train=0", r"--t-train must lie in \[0.05, 10\], got 0"),
        ("--train-top-p=1.5", r"--train-top-p must lie in \(0, 1\], got 1.5"),
        ("--eval-top-p=0", r"--eval-top-p must lie in \(0, 1\], got 0"),
    ],
)
def test_a_number_out_of_range_names_its_option(option: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        main([option])
