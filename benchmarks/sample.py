"""Sampling speed on this machine: this project's sampling against vLLM's own LLM.generate.

    python benchmarks/sample.py                                  the packaged SmolLM2-135M
    python benchmarks/sample.py --model FOLDER --prompts 512 hardware.max_num_seqs=512
    python benchmarks/sample.py --replicas 1,2                   engines side by side, against one
    python benchmarks/sample.py --replicas 1,2 hardware/pool=ray hardware.pool.cores=1
    python benchmarks/sample.py --settings 6                     as one queue, and one by one

One engine, with the settings that a run has, draws the same answers in several ways, in turn:
  bare        LLM.generate with temperature alone
  truncation  the same with top-k and top-p, as vLLM truncates
  ours_cut    the same, truncated as this project does on CPUs (elsewhere there is no such line)
  seeds       the same with a seed for every request: what `sampled` draws, drawn by vLLM alone
  logprobs    the same with log-probabilities of the drawn tokens
  engine      this project's engine, with seeds
  sampled     what a run does: engine, progress, records, shards on disk

`seeds`, `engine` and `sampled` draw the same tokens. The figure that counts is `sampled` against
`seeds`: what is lost between vLLM and a stored corpus. Prompts are prefilled anew each time.

With `--replicas` the same requests are drawn by so many engines in turn. Each has the same part of
the machine whatever their number: with `1,2` on two cores, one core. They take `sampled`'s way.
"""

import argparse
import dataclasses
import functools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))  # compose_config
TEMP, TOP_K, TOP_P = 1.6, 20, 0.8
"""Of Qwen3-4B-Instruct and Qwen3-30B-A3B-Instruct in the paper's Table 3."""


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="checkpoint folder; the packaged model by default")
    parser.add_argument("--prompts", type=int, default=64, help="requests (default 64)")
    parser.add_argument("--max-new-tokens", type=int, default=128, help="per answer (default 128)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds over all ways (default 3)")
    parser.add_argument("--hardware", default="auto", help="option of the group (default auto)")
    parser.add_argument("--only", type=lambda text: text.split(","), help="some of the ways")
    parser.add_argument(
        "--settings", type=int, help="so many temperatures as one queue, against one by one"
    )
    parser.add_argument(
        "--replicas", type=lambda text: [*map(int, text.split(","))], help="numbers, such as 1,2"
    )
    parser.add_argument("--json", type=Path, help="also write the figures there")
    parser.add_argument("overrides", nargs="*", help="settings, such as hardware.max_num_seqs=512")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    from runs import compose_config

    from ssd.generation.engines import LazyEngine, load_engine
    from ssd.models.fetch import fetch
    from ssd.problems.prompts import load_prompts
    from ssd.runtime.hardware import resolve

    model = () if arguments.model is None else (f"model.path={arguments.model}",)
    config = compose_config(f"hardware={arguments.hardware}", *model, *arguments.overrides)
    hardware = resolve(config.hardware)
    folder = Path(fetch(config.model).path)
    problems, _ = load_prompts(dataclasses.replace(config.data, limit=None))
    requests = make_requests(problems, config, folder, arguments.prompts, arguments.max_new_tokens)
    longest = max(len(request.prompt_token_ids) for request in requests)
    if arguments.settings is not None:
        print_queue(config, hardware, folder, requests, arguments)
        return
    if arguments.replicas is not None:
        from ssd.generation.messages import Load

        load = Load(
            name=config.sampler.engine, folder=folder, model=config.model,
            hardware=dataclasses.replace(hardware, replicas=max(arguments.replicas)),
            max_model_len=longest + arguments.max_new_tokens, adapter=None,
        )  # fmt: skip
        figures = side_by_side(load, arguments.replicas, requests, arguments.repeats)
        print_linearity(figures)
        if arguments.json is not None:
            arguments.json.write_text(json.dumps(figures, indent=2))
        return
    with LazyEngine(
        lambda: load_engine(
            config.sampler.engine, folder, config.model, hardware,
            max_model_len=longest + arguments.max_new_tokens,
        )
    ) as lazy:  # fmt: skip
        ways = make_ways(lazy, requests)
        names = arguments.only or list(ways)
        for name in names:  # the first batch after a start is slower than the next ones
            ways[name](requests[: len(requests) // 4])
        print(f"engine started in {lazy.start_seconds:.1f} s", file=sys.stderr, flush=True)
        rates: dict[str, list[float]] = {name: [] for name in names}
        for _ in range(arguments.repeats):
            for name in names:
                rates[name].append(timed(lazy.get(), ways[name], requests))
                print(f"{name}: {rates[name][-1]:.0f} tok/s", file=sys.stderr, flush=True)
    print_table(rates)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(rates, indent=2))


def make_requests(
    problems: list[Any], config: Any, folder: Path, number: int, max_new_tokens: int
) -> list[Any]:
    """As many requests as asked for, of the run's own prompts over and over."""
    from ssd.generation.requests import build_requests
    from ssd.method.decoding import Decoding
    from ssd.models.chat import load_tokenizer

    requests, _ = build_requests(
        problems, config.prompt_format, config.model, load_tokenizer(str(folder)),
        num_samples=-(-number // len(problems)), seed=0,
        max_new_tokens=max_new_tokens, max_model_len=None,
        decoding=Decoding(TEMP, TOP_K, TOP_P),
    )  # fmt: skip
    return requests[:number]


def make_ways(lazy: Any, requests: list[Any]) -> dict[str, Callable[[list[Any]], int]]:
    """Functions that draw requests and return how many tokens they drew."""
    from vllm import TokensPrompt

    from ssd.generation.vllm_engine import sampling_params
    from ssd.generation.vllm_truncation import ask
    from ssd.method.decoding import Decoding

    engine: Any = lazy.get()
    cut, whole = Decoding(TEMP, TOP_K, TOP_P), Decoding(TEMP)

    def bare(decoding: Decoding, *, seeds: bool, logprobs: int | None, ours: bool) -> Any:
        def draw(requests: list[Any]) -> int:
            params = [
                sampling_params(
                    dataclasses.replace(request, decoding=decoding),
                    logprobs,
                    engine.stop_token_ids,
                )
                for request in requests
            ]
            for one in params:
                one.seed = one.seed if seeds else None
            prompts = [TokensPrompt(prompt_token_ids=list(r.prompt_token_ids)) for r in requests]
            cut_params = [ask(one) for one in params] if ours else params
            outputs = engine.llm.generate(prompts, cut_params, use_tqdm=False)
            engine.num_asked += len(requests)
            return sum(len(output.outputs[0].token_ids) for output in outputs)

        return draw

    def through_engine(requests: list[Any]) -> int:
        answers = engine.generate(requests, logprobs=None, tick=lambda _: None)
        return sum(len(answer.token_ids) for _, answer in answers)

    ways = {
        "bare": bare(whole, seeds=False, logprobs=None, ours=False),
        "truncation": bare(cut, seeds=False, logprobs=None, ours=False),
        "ours_cut": bare(cut, seeds=False, logprobs=None, ours=True),
        "seeds": bare(cut, seeds=True, logprobs=None, ours=engine.on_cpu),
        "logprobs": bare(cut, seeds=True, logprobs=0, ours=engine.on_cpu),
        "engine": through_engine,
        "sampled": functools.partial(sampled, lazy),
    }
    return {name: way for name, way in ways.items() if engine.on_cpu or name != "ours_cut"}


def sampled(lazy: Any, requests: list[Any]) -> int:
    """Draw and store requests as a run does; how many tokens they were."""
    from ssd.generation import generate_shards
    from ssd.records.samples import read_samples

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        generate_shards(folder, requests, engine=lazy, shard_size=64, label="sampled")
        return sum(len(s.completion_token_ids) for s in read_samples(folder / "shards"))


def side_by_side(
    load: Any, numbers: list[int], requests: list[Any], repeats: int
) -> dict[int, list[float]]:
    """Tokens per second of the first so many of all replicas, while the others wait idle."""
    from ssd.generation.engines import LazyEngine, start_engine

    rates: dict[int, list[float]] = {number: [] for number in numbers}
    with LazyEngine(lambda: start_engine(load)) as lazy:
        engine: Any = lazy.get()
        replicas = engine.replicas
        while not all(replica.num_sequences for replica in replicas):
            sampled(lazy, requests[: len(requests) // 4])
        sampled(lazy, requests)  # the first batch after a start is slower than the next ones
        for _ in range(repeats):
            for number in numbers:
                engine.replicas = replicas[:number]
                started = time.monotonic()
                rates[number].append(sampled(lazy, requests) / (time.monotonic() - started))
                print(f"{number}: {rates[number][-1]:.0f} tok/s", file=sys.stderr, flush=True)
        engine.replicas = replicas
    return rates


def print_queue(
    config: Any, hardware: Any, folder: Path, requests: list[Any], arguments: argparse.Namespace
) -> None:
    """Seconds of the same answers under several temperatures, drawn as one queue and one
    temperature after the other, in turn; medians, and the ratio within each round."""
    from ssd.generation import Part, generate_queue
    from ssd.generation.engines import LazyEngine, load_engine
    from ssd.method.decoding import Decoding

    temps = [0.6 + 0.1 * number for number in range(arguments.settings)]
    settings = [
        [
            dataclasses.replace(request, decoding=Decoding(temp, TOP_K, TOP_P))
            for request in requests
        ]
        for temp in temps
    ]
    longest = max(len(request.prompt_token_ids) for request in requests)

    def seconds(lazy: Any, groups: list[list[list[Any]]]) -> float:
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as scratch:
            for number, group in enumerate(groups):
                parts = [
                    Part(Path(scratch) / f"{number}-{i}", part) for i, part in enumerate(group)
                ]
                list(generate_queue(parts, engine=lazy, shard_size=64, label="queue"))
        return time.monotonic() - started

    ways = {"one queue": [settings], "one after the other": [[part] for part in settings]}
    times: dict[str, list[float]] = {name: [] for name in ways}
    with LazyEngine(
        lambda: load_engine(
            config.sampler.engine, folder, config.model, hardware,
            max_model_len=longest + arguments.max_new_tokens,
        )
    ) as lazy:  # fmt: skip
        seconds(lazy, [settings[:1]])
        for _ in range(arguments.repeats):
            for name, groups in ways.items():
                times[name].append(seconds(lazy, groups))
                print(f"{name}: {times[name][-1]:.1f} s", file=sys.stderr, flush=True)
    queue, sequence = times.values()
    ratio = statistics.median(b / a for a, b in zip(queue, sequence, strict=True))
    print(
        f"{statistics.median(queue):.1f} s as one queue, {statistics.median(sequence):.1f} s one "
        f"after the other: {ratio:.2f} times as long"
    )


def print_linearity(rates: dict[int, list[float]]) -> None:
    """Medians, and the ratio within each round to as many times the rate of the fewest."""
    fewest = min(rates)
    print("| replicas | tokens/s | of linear |\n|---|---|---|")
    for number, values in rates.items():
        pairs = zip(values, rates[fewest], strict=True)
        share = statistics.median(rate / base * fewest / number for rate, base in pairs)
        print(f"| {number} | {statistics.median(values):,.0f} | {share:.2f} |")


def timed(engine: Any, way: Callable[[list[Any]], int], requests: list[Any]) -> float:
    """Tokens per second."""
    engine.llm.reset_prefix_cache()
    started = time.monotonic()
    return way(requests) / (time.monotonic() - started)


def print_table(rates: dict[str, list[float]]) -> None:
    """Medians, and the ratio to each reference within each round."""
    print("| way | tokens/s | of bare | of seeds |\n|---|---|---|---|")
    for name, values in rates.items():
        ratios = [
            statistics.median(a / b for a, b in zip(values, rates[other], strict=True))
            if other in rates
            else float("nan")
            for other in ("bare", "seeds")
        ]
        print(f"| {name} | {statistics.median(values):,.0f} | {ratios[0]:.2f} | {ratios[1]:.2f} |")


if __name__ == "__main__":
    main()
