"""Training speed and memory on this machine, every contestant on the same samples in one run.

    python benchmarks/train.py                      the packaged SmolLM2-135M
    python benchmarks/train.py --model FOLDER --seq-len 2048 --only ours,trl
    python benchmarks/train.py --device cuda --model FOLDER --seq-len 16384 --batch 16 \\
        --completion-tokens 1200                    on a GPU; it needs no less than 4 steps

Contestants, each in a process of its own, in turn, `--repeats` times:
  ours         the train stage as the pipeline starts it: packed rows, loss head in chunks
  ours_padded  the same with train.packing=false
  ours_glibc   the same without tcmalloc, which `ours` takes where it is installed
  ours_full, ours_selective   the same with activation checkpointing
  ours_eager   the same without compiled layers, which `ours` has on a GPU
  plain        a transformers loop: padded batches, full logits, autocast
  trl          TRL's SFTTrainer (pip install --no-deps trl==1.16.0) with packing and its defaults;
               on a GPU these recompute activations, and it takes flash-attn and Liger's kernels
               where they are installed
  trl_tcmalloc the same with tcmalloc

All train the same weights (fp32 masters, bf16 autocast) with torch's AdamW on the same tokens: MBPP
problems with their reference programs, laid together to the lengths that answers have. Tokens/s
counts prompt and completion tokens, padding never, the first step left out, on a GPU the first
three: compiling takes them. Memory is the process's peak resident set, on a GPU the allocator's
peak. MFU divides the arithmetic that the training needs (6 per weight and token; the head at loss
tokens only; attention within documents) by a large bf16 matrix product's on this machine.
"""

import argparse
import dataclasses
import importlib.util
import itertools
import json
import math
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ssd.run import lineage

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))  # compose_config

WARM_UP = {"cpu": 1, "cuda": 3}
"""Steps that are left out."""
HARDWARE = {
    "cpu": ("hardware=cpu",),
    "cuda": ("hardware=gpu_1", "hardware.activation_checkpointing=none"),
}
OURS = {
    "ours": (),
    "ours_fp32": ("train.precision=fp32",),
    "ours_padded": ("train.packing=false",),
    "ours_glibc": (),
    "ours_full": ("hardware.activation_checkpointing=full",),
    "ours_selective": ("hardware.activation_checkpointing=selective",),
    "ours_eager": ("hardware.compile_training=false",),
}
CONTESTANTS = (*OURS, "plain", "trl", "trl_tcmalloc")
DEFAULT = {
    "cpu": ("ours", "ours_full", "trl", "plain"),
    "cuda": ("ours", "ours_eager", "ours_full", "trl"),
}


def main() -> None:
    arguments = parse_arguments()
    if arguments.contestant:
        measure(arguments)
        return
    from runs import compose_config

    from ssd.models.fetch import fetch

    folder = arguments.model or fetch(compose_config().model).path
    arguments.model = str(folder)
    with tempfile.TemporaryDirectory() as scratch:
        samples = make_samples(str(folder), arguments)
        data = Path(scratch) / "samples.json"
        data.write_text(json.dumps(samples))
        peak = matrix_rate(arguments.device)
        found: dict[str, list[dict[str, float]]] = {name: [] for name in arguments.only}
        for _ in range(arguments.repeats):
            for name in arguments.only:
                found[name].append(run_contestant(name, data, arguments))
                print(f"{name}: {found[name][-1]}", file=sys.stderr, flush=True)
    print_table(found, samples, flops(str(folder), samples), peak, arguments)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="checkpoint folder; the packaged model by default")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--steps", type=int, default=6, help="optimizer steps (default 6)")
    parser.add_argument("--batch", type=int, default=8, help="samples of a step (default 8)")
    parser.add_argument(
        "--completion-tokens", type=int, default=180, help="of a median sample (default 180)"
    )
    parser.add_argument("--seq-len", type=int, default=1024, help="tokens per row (default 1024)")
    parser.add_argument("--repeats", type=int, default=1, help="rounds over all contestants")
    parser.add_argument(
        "--only",
        type=lambda text: tuple(text.split(",")),
        help=f"which of {', '.join(CONTESTANTS)}; default {','.join(DEFAULT['cpu'])}, on a GPU "
        f"{','.join(DEFAULT['cuda'])}",
    )
    parser.add_argument("--contestant", help=argparse.SUPPRESS)
    parser.add_argument("--data", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help="also write the figures there")
    arguments = parser.parse_args()
    arguments.only = arguments.only or DEFAULT[arguments.device]
    if unknown := sorted({*arguments.only} - {*CONTESTANTS}):
        parser.error(f"--only: no contestant {', '.join(unknown)}")
    if arguments.steps <= WARM_UP[arguments.device]:
        parser.error(f"--steps must exceed the {WARM_UP[arguments.device]} that are left out")
    return arguments


def make_samples(folder: str, arguments: argparse.Namespace) -> list[dict[str, list[int]]]:
    """Token ids of prompts and completions; completions of log-normal length."""
    from transformers import AutoTokenizer

    from ssd.problems.problem import mbpp_problem, packaged_rows

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    draw = random.Random(0)
    rows = packaged_rows("mbpp", "train")
    programs = [tokenizer.encode(row["code"] + "\n\n") for row in rows]
    samples = []
    for index in range(arguments.batch * arguments.steps):
        prompt = tokenizer.encode(mbpp_problem(rows[index % len(rows)]).question)
        length = int(
            min(
                draw.lognormvariate(math.log(arguments.completion_tokens), 0.6),
                0.75 * arguments.seq_len,
            )
        )
        completion: list[int] = []
        while len(completion) < length:
            completion += draw.choice(programs)
        prompt = prompt[: arguments.seq_len // 4]
        samples.append({"prompt": prompt, "completion": completion[:length]})
    return samples


def run_contestant(
    name: str, data: Path, arguments: argparse.Namespace, threads: dict[str, str] | None = None
) -> dict[str, float]:
    """Tokens/s after the warm-up, peak GiB, and the first step's loss; `threads` are variables
    in place of those that the pipeline would set for ours."""
    from ssd.run.launch import tcmalloc
    from ssd.runtime.threads import thread_settings

    if threads is None:
        on_cpu = arguments.device == "cpu"
        threads = thread_settings() if name in OURS and on_cpu else {}
    faster = name == "trl_tcmalloc" or (name in OURS and name != "ours_glibc")
    allocator = tcmalloc() if faster and arguments.device == "cpu" else {}
    command = [sys.executable, __file__, "--contestant", name, "--data", str(data)]
    command += ["--model", arguments.model, "--steps", str(arguments.steps)]
    command += ["--seq-len", str(arguments.seq_len), "--batch", str(arguments.batch)]
    command += ["--device", arguments.device]
    environment = {**os.environ, **allocator, **threads, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, env=environment, cwd=ROOT
    )
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(arguments: argparse.Namespace) -> None:
    """Run one contestant in this process and print its figures as JSON."""
    name = arguments.contestant
    samples = json.loads(Path(arguments.data).read_text())
    if name in OURS:
        tokens, seconds, loss = run_ours(samples, arguments, OURS[name])
    elif name == "plain":
        tokens, seconds, loss = run_plain(samples, arguments)
    else:
        tokens, seconds, loss = run_trl(samples, arguments)
    if arguments.device == "cuda":
        import torch

        peak = torch.cuda.max_memory_allocated() / 2**30
    else:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    skipped = WARM_UP[arguments.device]
    rate = sum(tokens[skipped:]) / sum(seconds[skipped:])
    figures = {"tokens_per_second": rate, "peak_gib": peak, "loss": loss}
    print(json.dumps(figures))


Timed = tuple[list[int], list[float], float]
"""Tokens and seconds of every step, and the first step's loss."""


def run_ours(samples: list[Any], arguments: argparse.Namespace, settings: tuple[str, ...]) -> Timed:
    """The train stage itself, on a corpus made of the samples."""
    from runs import compose_config

    from ssd.models.weights import locate
    from ssd.records.samples import Sample, write_samples
    from ssd.run import Run, save_run
    from ssd.run.tracking import read_metrics
    from ssd.runtime.hardware import resolve
    from ssd.train.trainer import train

    with tempfile.TemporaryDirectory() as scratch:
        config = compose_config(
            f"model.path={arguments.model}", "logger=none", *HARDWARE[arguments.device],
            f"output_dir={scratch}/out", f"train.seq_len={arguments.seq_len}",
            f"train.global_batch_size={arguments.batch}", f"train.max_steps={arguments.steps}",
            "train.checkpoint_every=100000", *settings,
        )  # fmt: skip
        config = dataclasses.replace(config, hardware=resolve(config.hardware))
        weights = locate(config.model)
        assert weights is not None
        run = Run(folder=Path(scratch) / "run", config=config, weights=weights)
        save_run(run, [])
        stored = [
            Sample(
                prompt_id=str(i), sample_index=0, seed=i, prompt_token_ids=one["prompt"],
                completion_token_ids=one["completion"], text="", finish_reason="stop",
            )
            for i, one in enumerate(samples)
        ]  # fmt: skip
        with lineage.corpus(run).writing() as folder:
            write_samples(folder / "corpus.parquet", stored)
            lineage.corpus(run).finish(started=time.time(), counts={})
        train(run)
        lines = [
            line for line in read_metrics(lineage.checkpoint(run).folder) if "train/loss" in line
        ]
    tokens = [line["train/num_tokens"] for line in lines]
    seconds = [line["train/num_tokens"] / line["train/tokens_per_second"] for line in lines]
    return tokens, seconds, lines[0]["train/loss"]


def run_plain(samples: list[Any], arguments: argparse.Namespace) -> Timed:
    """What people write first: batches of four padded rows with a mask, the model's own loss."""
    import torch
    from transformers import AutoModelForCausalLM

    device, batch = arguments.device, arguments.batch
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32)
    model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    tokens, seconds, losses = [], [], []
    for step in range(arguments.steps):
        started = time.monotonic()
        chosen = samples[step * batch : (step + 1) * batch]
        for part in range(0, batch, 4):
            rows = [one["prompt"] + one["completion"] for one in chosen[part : part + 4]]
            longest = max(map(len, rows))
            ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
            mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
            labels = ids.masked_fill(mask == 0, -100)
            for row, one in zip(labels, chosen[part : part + 4], strict=True):
                row[: len(one["prompt"])] = -100
            inputs = {"input_ids": ids, "attention_mask": mask, "labels": labels}
            with torch.autocast(device, torch.bfloat16):
                loss = model(**{name: tensor.to(device) for name, tensor in inputs.items()}).loss
            (loss * len(rows) / batch).backward()
            losses.append(float(loss.detach()))
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()
        tokens.append(sum(len(one["prompt"]) + len(one["completion"]) for one in chosen))
        seconds.append(time.monotonic() - started)
    return tokens, seconds, statistics.fmean(losses[: -(-batch // 4)])


def run_trl(samples: list[Any], arguments: argparse.Namespace) -> Timed:
    """TRL's SFTTrainer on the same ids, packed (best-fit decreasing) to rows of `seq_len`."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    total = sum(len(one["prompt"]) + len(one["completion"]) for one in samples)
    rows_per_step = max(round(total / arguments.steps / arguments.seq_len), 1)
    data = Dataset.from_list(
        [
            {
                "input_ids": one["prompt"] + one["completion"],
                "completion_mask": [0] * len(one["prompt"]) + [1] * len(one["completion"]),
            }
            for one in samples
        ]
    )
    ends: list[float] = []
    on_gpu = arguments.device == "cuda"

    class Clock(TrainerCallback):
        def on_train_begin(self, *_: Any, **__: Any) -> None:
            ends.append(time.monotonic())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            if on_gpu:
                torch.cuda.synchronize()
            ends.append(time.monotonic())

    with tempfile.TemporaryDirectory() as scratch:
        trainer = SFTTrainer(
            model=AutoModelForCausalLM.from_pretrained(
                arguments.model, dtype=torch.float32, **trl_attention(on_gpu=on_gpu)
            ),
            args=SFTConfig(
                output_dir=scratch, packing=True, max_length=arguments.seq_len, bf16=True,
                per_device_train_batch_size=1, **trl_settings(on_gpu=on_gpu),
                gradient_accumulation_steps=rows_per_step, num_train_epochs=1, logging_steps=1,
                learning_rate=1e-5, report_to="none", save_strategy="no", disable_tqdm=True,
            ),
            train_dataset=data,
            processing_class=AutoTokenizer.from_pretrained(arguments.model),
            callbacks=[Clock()],
        )  # fmt: skip
        collate = trainer.data_collator
        sizes: list[int] = []

        def counting(rows: list[Any]) -> Any:
            sizes.append(sum(len(row["input_ids"]) for row in rows))
            return collate(rows)

        trainer.data_collator = counting
        trainer.train()
        losses = [line["loss"] for line in trainer.state.log_history if "loss" in line]
    steps = [sum(sizes[i : i + rows_per_step]) for i in range(0, len(sizes), rows_per_step)][
        : len(ends) - 1
    ]
    return steps, [b - a for a, b in itertools.pairwise(ends)], losses[0]


def trl_attention(*, on_gpu: bool) -> dict[str, str]:
    """Packing wants flash attention, for which flash-attn is the package; else the model's own."""
    flash = on_gpu and importlib.util.find_spec("flash_attn") is not None
    return {"attn_implementation": "flash_attention_2"} if flash else {}


def trl_settings(*, on_gpu: bool) -> dict[str, Any]:
    """Of SFTConfig: on a GPU its defaults, which recompute activations, and Liger where it is."""
    if not on_gpu:
        return {"use_cpu": True, "gradient_checkpointing": False}
    return {"use_liger_kernel": importlib.util.find_spec("liger_kernel") is not None}


def matrix_rate(device: str) -> float:
    """FLOP/s of a bf16 matrix product, 2048 wide on these cores and 8192 wide on a GPU, the best
    of five."""
    import torch

    width = 8192 if device == "cuda" else 2048
    left, right = torch.randn(2, width, width, device=device).bfloat16()
    times = []
    for _ in range(6):
        if device == "cuda":
            torch.cuda.synchronize()
        started = time.monotonic()
        left @ right
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.monotonic() - started)
    return 2 * width**3 / min(times[1:])


def machine(device: str) -> str:
    """What the figures belong to."""
    import torch

    return torch.cuda.get_device_name() if device == "cuda" else f"{os.cpu_count()} cores"


def flops(folder: str, samples: list[Any]) -> float:
    """Arithmetic per token that training on the samples needs, nothing computed twice."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    head = model.get_output_embeddings().weight.numel()
    body = sum(
        module.weight.numel() for module in model.model.modules()
        if isinstance(module, torch.nn.Linear)
    )  # fmt: skip
    width = config.num_attention_heads * getattr(
        config, "head_dim", config.hidden_size // config.num_attention_heads
    )
    total, needed = 0, 0.0
    for one in samples:
        length = len(one["prompt"]) + len(one["completion"])
        total += length
        needed += 6 * body * length + 6 * head * len(one["completion"])
        needed += 6 * config.num_hidden_layers * width * length * length  # causal: half of 12
    return needed / total


def print_table(
    found: dict[str, list[dict[str, float]]],
    samples: list[Any],
    per_token: float,
    peak: float,
    arguments: argparse.Namespace,
) -> None:
    """One line per contestant, ratios against `trl` where it ran, else against the first."""
    lengths = [len(one["prompt"]) + len(one["completion"]) for one in samples]
    print(
        f"\n{machine(arguments.device)}: {arguments.steps} steps of {arguments.batch} samples, "
        f"{min(lengths)} to {max(lengths)} tokens "
        f"(mean {statistics.fmean(lengths):.0f}), rows of {arguments.seq_len}; "
        f"{per_token / 1e9:.2f} GFLOP per token, matrix product {peak / 1e12:.2f} TFLOP/s\n"
    )
    rows = {
        name: {key: statistics.median(one[key] for one in runs) for key in runs[0]}
        for name, runs in found.items()
    }
    reference = rows.get("trl", next(iter(rows.values())))
    print(f"{'':15} {'tok/s':>7} {'ratio':>6} {'peak GiB':>9} {'ratio':>6} {'MFU':>6}  first loss")
    for name, row in rows.items():
        row["rate_share"] = row["tokens_per_second"] * per_token / peak
        print(
            f"{name:15} {row['tokens_per_second']:7.1f} "
            f"{row['tokens_per_second'] / reference['tokens_per_second']:6.2f} "
            f"{row['peak_gib']:9.2f} {row['peak_gib'] / reference['peak_gib']:6.2f} "
            f"{row['rate_share']:6.1%}  {row['loss']:.4f}"
        )
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
