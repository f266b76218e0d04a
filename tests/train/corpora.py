"""Corpora and checkpoints made here, so that training is tested without an engine or a hub."""

import tempfile
import time
from pathlib import Path

import numpy as np

from ssd.artifacts.files import read_json
from ssd.models.random_init import byte_tokenizer
from ssd.plan.architecture import KNOWN
from ssd.records.samples import Sample, write_samples
from ssd.records.stored import StoredSamples
from ssd.run import Run, lineage
from ssd.train.batches import Example
from ssd.train.examples import Examples


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


def stored(samples: list[Sample]) -> StoredSamples:
    """Samples as a corpus has them; the file has no name any more once it is open."""
    with tempfile.TemporaryDirectory() as folder:
        write_samples(Path(folder) / "corpus.parquet", samples)
        return StoredSamples(Path(folder) / "corpus.parquet")


def stored_examples(examples: list[Example]) -> Examples:
    """Examples whose ids are on disk."""
    samples = [
        Sample(
            prompt_id=example.prompt_id,
            sample_index=0,
            seed=0,
            prompt_token_ids=list(example.token_ids[: example.num_prompt]),
            completion_token_ids=list(example.token_ids[example.num_prompt :]),
            text="",
            finish_reason="stop",
        )
        for example in examples
    ]
    lengths = [len(example.token_ids) for example in examples]
    num_prompt = [example.num_prompt for example in examples]
    return Examples(
        stored(samples), np.arange(len(examples)), np.array(num_prompt), np.array(lengths)
    )


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
