"""How much a run trains on: samples, tokens and epochs, from its corpus or from estimates."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssd.artifacts.files import read_json
from ssd.artifacts.names import CORPUS
from ssd.artifacts.store import Artifact, existing
from ssd.config.choices import DataSource, LongSamples
from ssd.config.settings import RunConfig
from ssd.models.weights import locate
from ssd.problems.prompts import load_prompts
from ssd.records.stored import StoredSamples
from ssd.run import Run, lineage


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The samples of a run; tokens are those of prompt and completion."""

    num_samples: int | None
    """None if nothing on this disk says."""
    samples_source: str
    mean_tokens: float
    """Of a sample."""
    tokens_source: str
    is_upper_bound: bool
    """Whether `mean_tokens` is only known to be no more than this."""
    context_tokens: float
    """Mean over tokens of the length of the sample they are in, which attention's work follows."""
    longest_tokens: int
    """Longest sample that memory must hold."""


def find_workload(config: RunConfig, folder: Path) -> Workload:
    """What `config` trains on.

    Raises:
        ArtifactError: `train.corpus` names no finished corpus, or the corpus is damaged.
        DataError: the prompts are missing or malformed.
    """
    seq_len, plan = config.train.seq_len, config.plan
    corpus = find_corpus(config, folder)
    lengths = np.zeros(0, dtype=np.int64)
    if corpus is not None:
        corpus.intact(CORPUS, setting=config.train.corpus and "train.corpus")
        lengths = corpus_lengths(corpus, seq_len, config.train.long_samples)
    mean, context, bound = float(seq_len), float(seq_len), True
    source = "train.seq_len, the longest a sample can be"
    if len(lengths):
        total = int(lengths.sum())
        mean, bound = total / len(lengths), False
        context = int((lengths**2).sum()) / total
        source = "the corpus"
    elif plan.tokens_per_sample is not None:
        mean = context = float(min(plan.tokens_per_sample, seq_len))
        source, bound = "plan.tokens_per_sample, assumed", False
    samples, samples_source = _num_samples(config, len(lengths))
    return Workload(
        num_samples=samples,
        samples_source=samples_source,
        mean_tokens=mean,
        tokens_source=source,
        is_upper_bound=bound,
        context_tokens=context,
        longest_tokens=int(lengths.max(initial=0)) or seq_len,
    )


def find_corpus(config: RunConfig, folder: Path) -> Artifact | None:
    """The run's finished corpus on this disk; None where there is none.

    A hub data set's branch is not looked up, because a plan uses no network: without a given
    commit, a corpus of any commit counts.
    """
    if config.train.corpus is not None:
        return existing(Path(config.train.corpus), ("corpus",), "train.corpus")
    manifests = sorted(Path(config.output_dir).glob("store/corpus/*/manifest.json"))
    weights = locate(config.model) if manifests else None
    if weights is None:
        return None
    corpus = lineage.corpus(Run(folder=folder, config=config, weights=weights))
    if corpus.done:
        return corpus
    if config.data.source is DataSource.hub and config.data.revision is None:
        for manifest in manifests:
            inputs = read_json(manifest)["inputs"]
            prompts = {**inputs["prompts"], "revision": None}
            if {**inputs, "prompts": prompts} == corpus.inputs:
                return Artifact(kind="corpus", inputs=inputs, folder=manifest.parent)
    return None


def corpus_lengths(corpus: Artifact, seq_len: int, policy: LongSamples) -> NDArray[np.int64]:
    """(N,) tokens of each sample that is trained on, found without reading them."""
    lengths = StoredSamples(corpus.folder / CORPUS).lengths().sum(axis=1, dtype=np.int64)
    if policy is LongSamples.skip:
        lengths = lengths[lengths <= seq_len]
    trained: NDArray[np.int64] = np.minimum(lengths, seq_len)
    return trained


def _num_samples(config: RunConfig, in_corpus: int) -> tuple[int | None, str]:
    data, plan = config.data, config.plan
    if in_corpus:
        return in_corpus, "the corpus"
    if plan.num_samples is not None:
        return plan.num_samples, "plan.num_samples, assumed"
    per_prompt = config.sampler.num_samples
    if data.source is not DataSource.hub:
        prompts, _ = load_prompts(data)
        return len(prompts) * per_prompt, "its prompts, before filters"
    if plan.num_prompts is not None:
        prompts_used = min(plan.num_prompts, data.limit or plan.num_prompts)
        return prompts_used * per_prompt, "plan.num_prompts, assumed"
    return None, "set plan.num_samples"
