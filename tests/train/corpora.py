"""Corpora written by hand, so that training is tested without an engine."""

import time

from ssd.generation import Sample
from ssd.generation.records import write_samples
from ssd.run import Run


def write_corpus(run: Run, lengths: list[tuple[int, int]]) -> list[Sample]:
    """Store a corpus of byte tokens with the given (prompt, completion) lengths
    as the run's own."""
    samples = [
        Sample(
            prompt_id=f"p{i}",
            sample_index=0,
            seed=i,
            prompt_token_ids=[(7 * i + j) % 256 for j in range(prompt)],
            completion_token_ids=[(11 * i + 3 * j) % 256 for j in range(completion)],
            text="text",
            finish_reason="stop",
        )
        for i, (prompt, completion) in enumerate(lengths)
    ]
    with run.corpus.writing() as folder:
        write_samples(folder / "corpus.parquet", samples)
        run.corpus.finish(started=time.time(), counts={"num_samples": len(samples)})
    return samples
