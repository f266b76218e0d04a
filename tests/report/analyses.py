"""A small analysis computed from made-up distributions, and stored by the project's writers."""

import time
from typing import Any

import numpy as np

from ssd.records.analysis import (
    TEMPS,
    TOP,
    Positions,
    ProbeSample,
    positions_file,
    write_positions,
    write_probe,
)
from ssd.run import Run, evidence

VOCABULARY = 64
PROGRAM = [
    "```", "python", "\n", "def", " total", "(", "values", "):", "\n    ", "result", " =", " ",
    "0", "\n    ", "for", " value", " in", " values", ":", "\n        ", "if", " value", " <",
    " limit", ":", "\n            ", "result", " +=", " value", "\n    ", "return", " result",
    "\n", "```",
]  # fmt: skip
HOSTILE = "</script><script>document.title='taken'</script><img src=x onerror=alert(1)>"


def truncated(probs: np.ndarray, temp: float, top_k: int | None, top_p: float) -> np.ndarray:
    """Temperature, then top-k, then top-p over what is left, as (N, V) probabilities."""
    warm = probs ** (1 / temp)
    warm /= warm.sum(1, keepdims=True)
    order = np.argsort(-warm, axis=1, kind="stable")
    ranked = np.take_along_axis(warm, order, axis=1)
    if top_k is not None:
        ranked[:, top_k:] = 0
    ranked /= ranked.sum(1, keepdims=True)
    ranked[ranked.cumsum(1) - ranked >= top_p] = 0
    kept = np.zeros_like(warm)
    np.put_along_axis(kept, order, ranked, axis=1)
    return kept / kept.sum(1, keepdims=True)


def entropy(probs: np.ndarray) -> np.ndarray:
    return -(probs * np.log(np.where(probs > 0, probs, 1))).sum(1)


def positions(run: Run, base: np.ndarray, probs: np.ndarray, where: dict[str, Any]) -> Positions:
    """What a model with these (N, V) probabilities thinks; the target is the base model's."""
    config = run.config
    temp, cut = config.sampler.temp, config.truncation
    target = truncated(base, temp, cut.top_k, cut.top_p)
    inside = np.where(target > 0, probs, 0)
    kept_mass = inside.sum(1)
    within = inside / kept_mass[:, None]
    power = (within ** (1 / temp) * (target > 0)).sum(1)
    tempered = within ** (1 / temp) * (target > 0) / power[:, None]
    ratio = np.where(target > 0, target / np.where(target > 0, tempered, 1), 1)
    rule = config.eval.truncation
    left = [truncated(probs, one, rule.top_k, rule.top_p) for one in TEMPS]
    order = np.argsort(-probs, axis=1, kind="stable")[:, :TOP]
    return Positions(
        **where,
        logprob=np.log(probs[np.arange(len(probs)), where["token_id"]]),
        entropy=entropy(probs),
        top_ids=order,
        top_probs=np.take_along_axis(probs, order, axis=1),
        support=(truncated(probs, temp, cut.top_k, cut.top_p) > 0).sum(1),
        kept_mass=kept_mass,
        support_compression=-np.log(kept_mass),
        reshaping=-temp * np.log(power),
        alignment=temp * (target * np.log(ratio)).sum(1),
        constant=temp * entropy(target),
        survivors=np.stack([(one > 0).sum(1) for one in left], axis=1),
        entropy_after=np.stack([entropy(one) for one in left], axis=1),
    )


def finish_analysis(
    run: Run, num_samples: int = 8, models: tuple[str, ...] = ("base", "t1", "tuned")
) -> None:
    """A finished analysis of the run: programs whose every fourth token is a fork, and a tuned
    model that cuts the tail and keeps the spread. The first completion ends in hostile text."""
    rng = np.random.default_rng(5)
    names = [*dict.fromkeys(PROGRAM), HOSTILE]
    names += [f" word{n}" for n in range(VOCABULARY - len(names))]
    samples, logits, where = [], [], {"sample": [], "index": [], "token_id": []}
    for number in range(num_samples):
        tokens = [*PROGRAM, *([HOSTILE] if number == 0 else [])]
        samples.append(ProbeSample(prompt_id=f"Set/{number}", sample_index=0, tokens=tokens))
        for index, token in enumerate(tokens):
            row = rng.normal(0, 0.7, VOCABULARY)
            row[names.index(token)] = 8 + rng.normal() if index % 4 else 3.5
            if index % 4 == 0:
                row[rng.choice(VOCABULARY, 3, replace=False)] = 3.2 + 0.3 * rng.normal(size=3)
            logits.append(row)
            for key, value in zip(where, (number, index, names.index(token)), strict=True):
                where[key].append(value)
    base = np.exp(logits)
    base /= base.sum(1, keepdims=True)
    cut = np.where(base < 0.01, base * 0.3, base)
    noisy = base * np.exp(rng.normal(0, 0.02, base.shape))
    every = {"base": base, "t1": noisy, "tuned": cut**0.95}
    places = {key: np.array(value) for key, value in where.items()}
    thoughts = {
        name: positions(run, base, every[name] / every[name].sum(1, keepdims=True), places)
        for name in models
    }
    artifact = evidence.analysis(run, dict.fromkeys(models))
    artifact.folder.mkdir(parents=True)
    for name, thought in thoughts.items():
        write_positions(positions_file(artifact.folder, name), thought)
    write_probe(artifact.folder, samples, dict(enumerate(names)))
    counts = {"num_samples": num_samples, "num_positions": len(base)}
    artifact.finish(started=time.time() - 30, counts=counts)
