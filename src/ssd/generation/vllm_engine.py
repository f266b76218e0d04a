"""vLLM's offline engine, with every sampling parameter spelled out.

`generation_config="vllm"` because a model's own generation_config.json would otherwise change
sampling silently. A process that imports this module starts no other CUDA library: vLLM frees GPU
memory only when its process ends.
"""

import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

from ssd.artifacts import read_json
from ssd.config import Accelerator, HardwareConfig, ModelConfig
from ssd.errors import HardwareError, one_line
from ssd.generation.records import GREEDY_TEMP, Completion, Decoding, Request
from ssd.hardware import available_memory
from ssd.models.chat import load_tokenizer, stop_token_ids

TICK_SECONDS = 1.0
"""Between two counts of the tokens that unfinished answers have so far."""
MERGE = "set adapter.merge=true, which trains nothing again"


def prepare_environment(hardware: HardwareConfig) -> None:
    """Set what vLLM reads at import; variables that the user has set stay as they are."""
    variables = {
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    }
    if hardware.accelerator is Accelerator.cpu:
        variables |= {
            "VLLM_CPU_KVCACHE_SPACE": str(hardware.kv_cache_gib),
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            # vLLM's own binding left one of two cores idle here.
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "OMP_NUM_THREADS": str(len(os.sched_getaffinity(0))),
        }
        if not hardware.compile_engine:  # vLLM would still compile one small function, with g++
            variables["TORCHDYNAMO_DISABLE"] = "1"
    for name, value in variables.items():
        os.environ.setdefault(name, value)


class VllmEngine:
    """A checkpoint loaded in vLLM, and an adapter that every request goes through."""

    def __init__(
        self,
        folder: Path,
        model: ModelConfig,
        hardware: HardwareConfig,
        *,
        max_model_len: int | None,
        adapter: Path | None = None,
    ) -> None:
        prepare_environment(hardware)
        warnings.filterwarnings("ignore", category=FutureWarning)
        for name in (
            "vllm.triton_utils",
            "torch._library.triton",
        ):  # each warns at every start that CPUs have no Triton
            logging.getLogger(name).setLevel(logging.ERROR)
        on_cpu = hardware.accelerator is Accelerator.cpu
        try:
            from vllm import LLM
            from vllm.lora.request import LoRARequest

            from ssd.generation.vllm_truncation import TRUNCATION

            if on_cpu:
                from ssd.generation.vllm_kernels import IR_OP_PRIORITY
        except ImportError as error:
            raise HardwareError(
                f"vLLM cannot be imported ({one_line(error)[:160]}): "
                "install the cpu or gpu extra as the README says, or use sampler=transformers"
            ) from error

        self.adapter = None if adapter is None else LoRARequest("tuned", 1, str(adapter.resolve()))
        # Not lora_target_modules: vLLM silently passes over what it fuses, such as q_proj, if that
        # setting names it in full as peft does.
        lora = {} if adapter is None else {"enable_lora": True, "max_lora_rank": lora_rank(adapter)}
        share = hardware.memory_utilization or (
            _cpu_memory_share(folder, hardware) if on_cpu else 0.9
        )
        self.truncates = on_cpu
        self.num_asked = 0
        try:
            self.llm = LLM(
                model=str(folder),
                dtype=model.dtype.value,
                max_model_len=max_model_len,
                max_num_seqs=hardware.max_num_seqs,
                tensor_parallel_size=hardware.tensor_parallel_size,
                gpu_memory_utilization=share,
                enforce_eager=not hardware.compile_engine,
                # On CPU a seeded request that is prefilled in parts kills the engine ("CPU
                # Generator does not use offset"), so prompts are prefilled whole there.
                enable_chunked_prefill=not on_cpu,
                generation_config="vllm",
                logprobs_mode="raw_logprobs",
                disable_log_stats=True,
                use_tqdm_on_load=False,
                # Only whole blocks of a prompt are cached: with the default of 128 tokens, three
                # answers to a short prompt prefill it three times and take 1.5 times as long.
                block_size=32 if on_cpu else None,
                logits_processors=[TRUNCATION] if self.truncates else None,
                kernel_config={"ir_op_priority": IR_OP_PRIORITY} if on_cpu else {},
                **lora,
            )
            if self.adapter is not None:
                if on_cpu and self.llm.llm_engine.model_config.is_moe:
                    raise ValueError("adapters of a mixture of experts need a GPU")
                self.llm.llm_engine.add_lora(self.adapter)
        except (RuntimeError, ValueError) as error:
            remedy = "" if adapter is None else f"; {MERGE}"
            raise HardwareError(
                f"vLLM could not load {adapter or folder}: {one_line(error)[:400]}{remedy}"
            ) from error
        self.stop_token_ids = stop_token_ids(str(folder), load_tokenizer(str(folder)))

    def generate(
        self,
        requests: Sequence[Request],
        decoding: Decoding,
        *,
        logprobs: bool,
        tick: Callable[[int], None],
    ) -> Iterator[tuple[Request, Completion]]:
        """Each request with its completion, in the order in which they end."""
        from vllm import TokensPrompt

        first, self.num_asked = self.num_asked, self.num_asked + len(requests)
        self.llm.enqueue(
            [TokensPrompt(prompt_token_ids=request.prompt_token_ids) for request in requests],
            [self._params(decoding, request.seed, logprobs) for request in requests],
            lora_request=self.adapter,
            use_tqdm=False,
        )
        ended = told = 0  # tokens
        looked = time.monotonic()
        while self.llm.llm_engine.has_unfinished_requests():
            for output in self.llm.llm_engine.step():
                if output.finished:
                    completion = _completion(output.outputs[0])
                    ended += len(completion.token_ids)
                    # The engine numbers requests in the order in which they came.
                    yield requests[int(output.request_id) - first], completion
            if time.monotonic() - looked > TICK_SECONDS:
                drawn = ended + self._tokens_in_flight()
                tick(drawn - told)
                told, looked = drawn, time.monotonic()
        tick(ended - told)

    def _tokens_in_flight(self) -> int:
        states = self.llm.llm_engine.output_processor.request_states.values()
        return sum(state.detokenizer.num_output_tokens() for state in states)

    def _params(self, decoding: Decoding, seed: int, logprobs: bool) -> Any:
        from vllm import SamplingParams

        from ssd.generation.vllm_truncation import ask

        params = SamplingParams(
            n=1,
            temperature=decoding.temp if decoding.temp >= GREEDY_TEMP else 0.0,
            top_k=decoding.top_k or 0,
            top_p=decoding.top_p,
            min_p=0.0,
            presence_penalty=0.0,
            frequency_penalty=0.0,
            repetition_penalty=1.0,
            seed=seed,
            stop=None,
            stop_token_ids=self.stop_token_ids,
            ignore_eos=False,
            max_tokens=decoding.max_new_tokens,
            min_tokens=0,
            logprobs=0 if logprobs else None,
            skip_special_tokens=True,
        )
        return ask(params) if self.truncates else params


def lora_rank(adapter: Path) -> int:
    """The smallest rank that vLLM makes room for and the adapter in this folder fits in.

    Raises:
        HardwareError: vLLM stops below the adapter's rank.
    """
    from vllm.config.lora import MaxLoRARanks

    rank = int(read_json(adapter / "adapter_config.json")["r"])
    offered: tuple[int, ...] = get_args(MaxLoRARanks)
    if rank > max(offered):
        raise HardwareError(
            f"{adapter} has rank {rank} and vLLM takes up to {max(offered)}; {MERGE}"
        )
    return min(fits for fits in offered if fits >= rank)


def _completion(output: Any) -> Completion:
    return Completion(
        token_ids=list(output.token_ids),
        text=output.text,
        finish_reason=output.finish_reason,
        logprob_sum=output.cumulative_logprob,
    )


def _cpu_memory_share(folder: Path, hardware: HardwareConfig) -> float:
    """The share of main memory vLLM is promised on CPU:
    it refuses to start where less than that is free.

    Raises:
        HardwareError: weights and cache do not fit.
    """
    from ssd.models.weights import weight_bytes

    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    needed = 2 * weight_bytes(folder) + hardware.kv_cache_gib * 2**30 + 2**30
    if needed > available_memory():
        raise HardwareError(
            f"the engine needs about {needed / 2**30:.1f} GiB of memory and "
            f"{available_memory() / 2**30:.1f} GiB are free: "
            "stop other programs, lower hardware.kv_cache_gib, or use a smaller model"
        )
    return min(0.95, needed / total)
