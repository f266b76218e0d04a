"""Which evaluation temperatures are advised, and why."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ssd.analyse.advice import Suggestion, advise, main
from ssd.errors import ArtifactError, ConfigError
from ssd.method.decoding import Decoding
from ssd.method.quadratic import QuadraticFit, fit_quadratic


def a_fit(peak: float, span: tuple[float, float] = (0.3, 3.0)) -> QuadraticFit:
    x = np.linspace(*span, 12)
    noise = 0.02 * np.random.default_rng(2).normal(size=12)
    fit = fit_quadratic(x, 1 - (x - peak) ** 2 + noise, rng=np.random.default_rng(0))
    assert fit is not None
    return fit


def advised(
    t_train: float = 1.6, *, fit: QuadraticFit | None = None, tried: tuple[float, ...] = (),
    base_temp: float = 0.7, truncated: bool = True,
) -> list[Suggestion]:  # fmt: skip
    sampled = Decoding(t_train, 20, 0.8) if truncated else Decoding(t_train)
    return advise(sampled, base_temp=base_temp, fit=fit, tried_temps=tried)


def by_temp(found: list[Suggestion]) -> dict[float, str]:
    return {one.temp: one.reason for one in found}


def test_without_a_fit_advice_is_the_bases_decoding_and_the_papers_products() -> None:
    found = by_temp(advised())
    assert list(found) == [0.45, 0.6, 0.9, 1.1]
    assert "equals the base model's own decoding at 0.7 on the tokens" in found[0.45]
    assert "Qwen3-4B-Instruct-2507, 1.6 x 1.1" in found[1.1]


def test_without_truncation_advice_names_the_papers_peak() -> None:
    found = by_temp(advised(2.0, truncated=False))
    assert "the paper's fit without truncation peaks near T_eff 1.2" in found[0.6]
    assert "on the tokens" not in found[0.5]


def test_with_a_fit_advice_is_its_peak_and_the_ends_of_its_interval() -> None:
    fit = a_fit(1.3)
    assert fit.peak_interval is not None
    found = by_temp(advised(1.0, fit=fit))
    near = min(found, key=lambda temp: abs(temp - 1.3))
    assert near == 1.3
    assert "peaks at T_eff 1.3" in found[near]
    assert not any("paper" in reason for reason in found.values())
    assert all(abs(temp - end) <= 0.05 for temp, end in zip(found, fit.peak_interval, strict=False))


def test_a_peak_that_is_not_located_gives_no_advice() -> None:
    beyond = a_fit(2.4, span=(0.5, 1.8))
    wide = dataclasses.replace(a_fit(1.3), peak_interval=(-2.8, 1.4))
    assert not beyond.is_located and not wide.is_located
    assert advised(fit=beyond) == advised(fit=wide) == advised(fit=None)


def test_a_fit_without_a_peak_leaves_theory() -> None:
    x = [0.5, 1.0, 1.5, 2.0, 2.5]
    upwards = fit_quadratic(x, [v**2 for v in x], rng=np.random.default_rng(0))
    assert advised(fit=upwards) == advised(fit=None)


def test_what_was_tried_is_left_out() -> None:
    assert list(by_temp(advised(tried=(0.46, 1.08)))) == [0.6, 0.9]
    assert advised(tried=(0.45, 0.6, 0.9, 1.1)) == []


def test_advice_stays_within_sensible_temperatures_and_says_so() -> None:
    found = by_temp(advised(0.2))
    assert max(found) == 2.0
    assert "this is the nearest sensible one" in found[2.0]
    assert min(by_temp(advised(9.0))) >= 0.1


def test_greedy_samples_get_no_advice() -> None:
    assert advised(0.0) == []
    assert all(one.temp >= 0.1 for one in advised(base_temp=0.0))


def a_study(path: Path, cells: list[dict[str, Any]]) -> Path:
    path.write_text(json.dumps({"version": 1, "kind": "study", "cells": cells}))
    return path


def cell(t_train: float, t_eval: float, value: float, **changes: Any) -> dict[str, Any]:
    return {
        "model": "tiny", "t_train": t_train, "top_k": 20, "top_p": 0.8, "t_eval": t_eval,
        "t_eff": t_train * t_eval, "value": value, "held_out": True, "benchmarks": ["mbpp"],
    } | changes  # fmt: skip


def test_the_command_fits_a_studys_scores(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = [
        cell(t, e, 0.4 - 0.1 * (t * e - 1.2) ** 2) for t in (0.8, 1.6) for e in (0.4, 0.7, 1, 1.3)
    ]
    others = [cell(1.6, 0.5, 0.9, top_k=None, top_p=1.0), cell(1.6, 0.5, 0.9, held_out=False)]
    path = a_study(tmp_path / "results.json", cells + others)
    main(["--t-train=1.6", "--top-k=20", "--top-p=0.8", f"--points={path}"])
    printed = capsys.readouterr().out
    assert "8 scores of tiny on held-out problems of mbpp: the fit peaks at T_eff 1.20" in printed
    assert "  0.75   1.20  the fit through 8 scores (R2 1.00) peaks at T_eff 1.20" in printed
    assert "Left out as tried: T_eval near 0.4, 0.7, 1, 1.3." in printed


def test_the_command_falls_back_to_theory_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = a_study(tmp_path / "results.json", [cell(1.6, 0.9, 0.4)])
    main(["--t-train=1.6", "--top-k=20", "--top-p=0.8", f"--points={path}"])
    assert "too few T_eff for a fit: the advice is from theory" in capsys.readouterr().out
    main(["--t-train=1.6", f"--points={path}"])
    assert "No score was trained under this truncation" in capsys.readouterr().out
    main(["--t-train=1.6", "--tried", "0.65", "0.6", "0.75"])
    assert "Everything worth trying has been tried" in capsys.readouterr().out


def test_bad_input_is_one_line_that_names_the_option(tmp_path: Path) -> None:
    for option, message in (
        ("--t-train=0", r"--t-train must lie in \(0, 10\], got 0"),
        ("--t-train=nan", "--t-train must lie in"),
    ):
        with pytest.raises(ConfigError, match=message):
            main([option])
    with pytest.raises(ArtifactError, match=r"--points=.* does not exist: ssd report"):
        main(["--t-train=1", f"--points={tmp_path}/none.json"])
    (tmp_path / "run.json").write_text('{"kind": "run"}')
    with pytest.raises(ArtifactError, match=r"name the results\.json of a study"):
        main(["--t-train=1", f"--points={tmp_path}/run.json"])
