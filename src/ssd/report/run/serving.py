"""How a trained model is used elsewhere: the lines that load and serve it, and the decoding that it
was scored with as other tools' default.

A checkpoint in the store keeps its base's `generation_config.json`: its manifest vouches for that
file, and two runs that share the checkpoint may have chosen different temperatures. So the decoding
goes into the line that serves the model, and into the file of a copy that is published.
"""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ssd.arms import TUNED
from ssd.artifacts.names import ADAPTER, MODEL
from ssd.config.choices import Accelerator
from ssd.method.decoding import Decoding
from ssd.models.names import GENERATION_CONFIG, MODEL_CONFIG
from ssd.models.weights import read_model_json
from ssd.report.run.checkpoints import Export, exports
from ssd.report.run.facts import Facts
from ssd.run import lineage

SAMPLING = (
    "do_sample", "temperature", "top_k", "top_p", "min_p", "typical_p", "repetition_penalty",
    "presence_penalty", "frequency_penalty",
)  # fmt: skip
"""Fields of `generation_config.json` that shape how tokens are drawn."""
SPECIAL = ("bos_token_id", "eos_token_id", "pad_token_id")
VLLM_RANK, VLLM_RANKS = 16, (16, 32, 64, 128, 256, 320, 512)
"""The rank of adapters that vLLM takes by default, and those it can be told to."""


@dataclass(frozen=True, slots=True)
class Usable:
    """A trained model as somebody else would use it."""

    folder: Path
    """`model` of a checkpoint, or `adapter` where it was not merged."""
    base: str
    """The hub id or folder that an adapter belongs onto."""
    decoding: Decoding
    rank: int | None = None
    """Of an adapter; None for a whole model."""
    cpu_cache_gib: int | None = None
    """The key-value cache of vLLM's build for CPUs; None where the usual build serves. That build
    starts as a module alone (its `vllm` command looks for the usual build's version) and would
    claim 0.92 of main memory."""

    def load_line(self) -> str:
        """The line of Python that loads it."""
        library, name = ("transformers", "AutoModelForCausalLM")
        if self.rank is not None:
            library, name = "peft", "AutoPeftModelForCausalLM"
        place = json.dumps(str(self.folder))
        return f"from {library} import {name}; model = {name}.from_pretrained({place})"

    def serve_line(self, name: str = TUNED) -> str:
        """The command that serves it by the decoding that it was scored with; an adapter under
        `name`, beside its base."""
        words = ["vllm", "serve"]
        if self.cpu_cache_gib is not None:
            words = ["python", "-m", "vllm.entrypoints.openai.api_server", "--enforce-eager"]
            words += ["--kv-cache-memory-bytes", f"{self.cpu_cache_gib}G", "--model"]
        words.append(str(self.folder) if self.rank is None else self.base)
        if self.rank is not None:
            words.append("--enable-lora")
            if self.rank > VLLM_RANK:
                rank = next((size for size in VLLM_RANKS if size >= self.rank), self.rank)
                words += ["--max-lora-rank", str(rank)]
            words += ["--lora-modules", f"{name}={self.folder}"]
        defaults = json.dumps(vllm_fields(self.decoding))
        return shlex.join([*words, "--override-generation-config", defaults])


def reported(facts: Facts) -> Export | None:
    """The tuned model that a run reports: of the step that was scored, or else its last one; None
    before training has ended."""
    if facts.checkpoint is None or facts.checkpoint.manifest is None:
        return None
    tuned = [export for export in exports(facts) if export.model == TUNED]
    return next((export for export in tuned if export.scored), tuned[0])


def usable(export: Export) -> Usable | None:
    """Where a checkpoint lies and how it is decoded; None where its export is gone."""
    parts = (export.folder / part for part in (MODEL, ADAPTER))
    folder = next((part for part in parts if part.is_dir()), None)
    if folder is None:
        return None
    run = export.facts.run
    hardware = run.config.hardware
    return Usable(
        folder,
        str(lineage.start_folder(run)),
        chosen_decoding(export),
        rank=run.config.adapter.rank if folder.name == ADAPTER else None,
        cpu_cache_gib=hardware.kv_cache_gib if hardware.accelerator is Accelerator.cpu else None,
    )


def chosen_decoding(export: Export) -> Decoding:
    """The decoding that a checkpoint's first score was made with; without scores, the configured
    one."""
    if export.scored:
        return export.scored[0][1].setting.decoding
    settings = export.facts.run.config.eval
    return Decoding.of(settings.temp, settings.truncation)


def vllm_fields(how: Decoding) -> dict[str, Any]:
    """A decoding as vLLM's defaults for requests; 0 keeps all of the vocabulary."""
    if how.is_greedy:
        return {"temperature": 0}
    return {"temperature": how.temp, "top_k": how.top_k or 0, "top_p": how.top_p}


def generation_config(folder: Path, how: Decoding) -> dict[str, Any]:
    """A model folder's `generation_config.json` with a decoding in the place of its own, penalties
    off, everything else kept. Where it has none, `config.json` names the special tokens, which
    transformers reads there only as long as the other file is missing."""
    if (folder / GENERATION_CONFIG).is_file():
        fields = read_model_json(folder, GENERATION_CONFIG)
    else:
        config = read_model_json(folder, MODEL_CONFIG)
        fields = {name: config[name] for name in SPECIAL if config.get(name) is not None}
    # transformers may make a file that is marked so anew, from config.json alone.
    fields.pop("_from_model_config", None)
    kept = {name: value for name, value in fields.items() if name not in SAMPLING}
    if how.is_greedy:
        return kept | {"do_sample": False}
    return kept | {"do_sample": True} | vllm_fields(how)
