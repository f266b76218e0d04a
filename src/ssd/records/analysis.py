"""The analysis as it is stored: what each model thinks at each position of the same completions.

N positions, G temperatures. Everything is read off the distributions at temperature 1 without
truncation, unless a name says otherwise. Probabilities are shares, entropies and losses in nats.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ssd.artifacts.files import read_json, read_rows, sealing, write_json, write_rows
from ssd.artifacts.names import MANIFEST, SAMPLES, TOKENS

TOP = 20
"""Ranks that are kept of each distribution (the paper's figures use the top-20 mass)."""
TEMPS = (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0)
"""Evaluation temperatures that `survivors` and `entropy_after` are given for, (G,)."""
TERMS = ("support_compression", "reshaping", "alignment", "constant")
"""The loss's parts (paper, appendix B), which add up to the cross-entropy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Positions:
    """One model at every position; row n of every model's is the same position."""

    sample: NDArray[np.int64]
    """(N,) number of the completion in `Analysis.samples`."""
    index: NDArray[np.int64]
    """(N,) number of the token in its completion."""
    token_id: NDArray[np.int64]
    """(N,) the token that stands there."""
    logprob: NDArray[np.float64]
    """(N,) its natural-log probability."""
    entropy: NDArray[np.float64]
    """(N,)"""
    top_ids: NDArray[np.int64]
    """(N, TOP) the most probable tokens, the first most so."""
    top_probs: NDArray[np.float64]
    """(N, TOP) their probabilities, descending."""
    support: NDArray[np.int64]
    """(N,) tokens that this model's own distribution keeps at the temperature and truncation that
    the corpus was drawn with; 1 where that was greedy."""
    kept_mass: NDArray[np.float64]
    """(N,) KeptMass: this model's probability of the tokens that the base model's distribution
    keeps there. It and the terms below are NaN where the corpus was drawn greedily: the loss has no
    such parts then."""
    support_compression: NDArray[np.float64]
    """(N,) -log KeptMass."""
    reshaping: NDArray[np.float64]
    """(N,) the Renyi term."""
    alignment: NDArray[np.float64]
    """(N,) T KL(q || Temper_T[p])."""
    constant: NDArray[np.float64]
    """(N,) T H(q), the same for every model."""
    survivors: NDArray[np.int64]
    """(N, G) tokens left at each temperature of `TEMPS` under `eval.truncation`."""
    entropy_after: NDArray[np.float64]
    """(N, G) entropy of what is left, renormalised."""

    @property
    def top1(self) -> NDArray[np.float64]:
        """(N,) probability of the most probable token."""
        first: NDArray[np.float64] = self.top_probs[:, 0]
        return first

    @property
    def head_mass(self) -> NDArray[np.float64]:
        """(N,) probability of the `TOP` most probable tokens together."""
        mass: NDArray[np.float64] = self.top_probs.sum(axis=1)
        return mass

    @property
    def tail_mass(self) -> NDArray[np.float64]:
        """(N,) the rest."""
        tail: NDArray[np.float64] = np.maximum(1 - self.head_mass, 0)
        return tail

    @property
    def cross_entropy(self) -> NDArray[np.float64]:
        """(N,) CE(q, p), the sum of `TERMS`."""
        total: NDArray[np.float64] = np.sum([getattr(self, name) for name in TERMS], axis=0)
        return total


FIELDS = tuple(field.name for field in dataclasses.fields(Positions))
"""Columns of a model's Parquet file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSample:
    """One completion of the probe set."""

    prompt_id: str
    sample_index: int
    tokens: list[str]
    """The text of each token read, special tokens too; together they are the text that was read. A
    character of several tokens stands with the last of them, and the others are empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """All of an analysis artifact."""

    positions: dict[str, Positions]
    """By model: `base`, and `t1` and `tuned` where they were trained."""
    samples: list[ProbeSample]
    tokens: dict[int, str]
    """Text of every id in `top_ids`."""


def write_probe(folder: Path, samples: list[ProbeSample], tokens: dict[int, str]) -> None:
    """Write the texts of an analysis artifact."""
    write_rows(folder / SAMPLES, [dataclasses.asdict(sample) for sample in samples])
    write_json(folder / TOKENS, {str(token): text for token, text in tokens.items()})


def positions_file(folder: Path, model: str) -> Path:
    """Where an analysis artifact keeps one model's positions."""
    return folder / f"{model}.parquet"


def write_positions(path: Path, positions: Positions) -> None:
    """Write one model's positions as a Parquet file, atomically: a row per position, a column per
    field, (N, K) fields as lists of K numbers."""
    import pyarrow
    import pyarrow.parquet

    columns = {}
    for name in FIELDS:
        values = getattr(positions, name)
        flat = pyarrow.array(values.ravel())
        if values.ndim > 1:
            flat = pyarrow.FixedSizeListArray.from_arrays(flat, values.shape[1])
        columns[name] = flat
    with sealing(path) as temporary:
        pyarrow.parquet.write_table(pyarrow.table(columns), temporary, compression="zstd")


def read_positions(path: Path) -> Positions:
    """One model's positions, as `write_positions` wrote them."""
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.parquet.ParquetFile(path).read()
    columns = {}
    for name in FIELDS:
        column = table.column(name).combine_chunks()
        lists = pyarrow.types.is_fixed_size_list(column.type)
        values = (column.flatten() if lists else column).to_numpy(zero_copy_only=False)
        values = values.astype(np.int64 if values.dtype.kind == "i" else np.float64)
        columns[name] = values.reshape(len(table), -1) if lists else values
    return Positions(**columns)


def read_analysis(folder: Path) -> Analysis:
    """A finished analysis."""
    models = read_json(folder / MANIFEST)["inputs"]["models"]
    return Analysis(
        positions={model: read_positions(positions_file(folder, model)) for model in models},
        samples=[ProbeSample(**row) for row in read_rows(folder / SAMPLES)],
        tokens={int(token): text for token, text in read_json(folder / TOKENS).items()},
    )
