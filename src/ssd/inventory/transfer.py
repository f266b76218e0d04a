"""The commands `export` and `import`."""

import argparse
from pathlib import Path

from ssd.artifacts.names import STORE
from ssd.artifacts.store import Artifact, existing
from ssd.check.__main__ import read_model
from ssd.config.settings import ModelConfig, TruncationConfig
from ssd.errors import ConfigError, ModelError
from ssd.inventory.exchange import CHAT, FORMATS, IDS, export_corpus, file_format
from ssd.inventory.holdings import take_inventory
from ssd.inventory.imports import Provenance, import_corpus
from ssd.models.weights import Weights, locate

MODEL = "preset of conf/model, checkpoint folder, hub id, or run folder"


def add_export(parser: argparse.ArgumentParser) -> None:
    """The options of `export`."""
    parser.add_argument(
        "corpus", metavar="CORPUS", help="folder, link of a run folder, fingerprint"
    )
    parser.add_argument("--to", type=Path, required=True, metavar="FILE", help=".jsonl or .parquet")
    parser.add_argument(
        "--format", choices=FORMATS, help=f"{CHAT} for .jsonl and {IDS} for .parquet by default"
    )
    parser.add_argument(
        "--model", help=f"{MODEL}: whose chat template; that of a run that refers to the corpus"
    )


def add_import(parser: argparse.ArgumentParser) -> None:
    """The options of `import`."""
    parser.add_argument(
        "file", type=Path, metavar="FILE",
        help="chat .jsonl (messages, ShareGPT, TRL's prompt and completion, Alpaca), "
        "apple/ml-ssd's train.jsonl or train.parquet, or .parquet of token ids",
    )  # fmt: skip
    parser.add_argument("--model", required=True, help=f"{MODEL}: what will be trained")
    parser.add_argument("--temp", type=float, help="temperature it was drawn at, where known")
    parser.add_argument("--top-k", type=int, help="with --temp; all tokens where left out")
    parser.add_argument("--top-p", type=float, default=1.0, help="with --temp; 1 where left out")
    parser.add_argument(
        "--exact", action="store_true", help="refuse text, and ids of unknown decoding"
    )


def located(name: str) -> tuple[ModelConfig, Weights]:
    """A model that a user names, and its weights on this disk.

    Raises:
        ModelError: they are not here.
    """
    model = read_model(name, []).model
    weights = locate(model)
    if weights is None:
        raise ModelError(f"{name} is not on this disk: fetch it with ssd check {name}")
    return model, weights


def run_export(arguments: argparse.Namespace) -> None:
    """Write a corpus into a file and say what its form loses."""
    form = file_format(arguments.to, arguments.format)
    corpus, run = _corpus(arguments.corpus, arguments.outputs)
    model, weights = None, None
    if form != IDS:
        named = arguments.model or run
        if named is None:
            raise ConfigError(
                f"no run in {arguments.outputs} refers to {corpus.folder}: name its model "
                "with --model"
            )
        model, weights = located(named)
        if weights.tokenizer != corpus.inputs["tokenizer"]:
            raise ConfigError(
                f"--model={named} has another tokenizer than {corpus.folder}: name its own"
            )
    exported = export_corpus(corpus, arguments.to, form, model, weights)
    print(f"{exported.num_samples} samples in {arguments.to} ({form})")
    if exported.num_other_ids:
        print(
            f"note: {exported.num_other_ids} of them do not encode to the ids trained on here, "
            f"{exported.num_cut} because a length cap cut them; --format ids loses nothing"
        )


def _corpus(name: str, outputs: Path) -> tuple[Artifact, str | None]:
    """The corpus that a user names, and a run that refers to it."""
    inventory = take_inventory(outputs)
    folder = Path(name) if Path(name).is_dir() else inventory.named(name).artifact.folder
    corpus = existing(folder, ("corpus",), "CORPUS")
    place = ("corpus", corpus.fingerprint)
    runs = [run for each in inventory.holdings if each.place == place for run in each.runs]
    return corpus, next(iter(runs), None)


def run_import(arguments: argparse.Namespace) -> None:
    """Make a corpus of a file and say what is unknown of it."""
    if arguments.temp is None and (arguments.top_k is not None or arguments.top_p != 1):
        raise ConfigError("--top-k and --top-p say how a sample of --temp was drawn: add --temp")
    model, weights = located(arguments.model)
    cut = TruncationConfig(top_k=arguments.top_k, top_p=arguments.top_p)
    known = Provenance(
        temp=arguments.temp,
        truncation=None if arguments.temp is None else cut,
        exact=arguments.exact,
    )
    corpus = import_corpus(arguments.file, arguments.outputs / STORE, model, weights, known)
    manifest = corpus.manifest()
    provenance = manifest["provenance"]
    print(f"{manifest['counts']['num_samples']} samples; token ids {provenance['token_ids']}")
    if provenance["unknown"]:
        print(f"unknown: {', '.join(provenance['unknown'])}")
    print(f"train.corpus={corpus.folder}")
