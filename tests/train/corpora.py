"""Corpora and checkpoints made here, so that training is tested without an engine or a hub."""

import time
from pathlib import Path

from ssd.artifacts.files import read_json
from ssd.models.random_init import byte_tokenizer
from ssd.plan.architecture import KNOWN
from ssd.records.samples import Sample, write_samples
from ssd.run import Run, lineage


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
    with lineage.corpus(run).writing() as folder:
        write_samples(folder / "corpus.parquet", samples)
        lineage.corpus(run).finish(started=time.time(), counts={"num_samples": len(samples)})
    return samples


def save_random(folder: Path, name: str, **changes: int) -> Path:
    """Write a random checkpoint of a known model's shape with some sizes changed; returns
    `folder`. Its tokenizer knows bytes alone, which `write_corpus` is made of."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    fields = {**read_json(KNOWN)[name], **changes}
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(CONFIG_MAPPING[fields["model_type"]](**fields))
    network.to(torch.bfloat16).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder
