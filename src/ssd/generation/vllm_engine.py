"""vLLM's offline engine, with every sampling parameter spelled out.

On GPUs vLLM's engine is a process of its own (on CPU with
VLLM_ENABLE_V1_MULTIPROCESSING=1), which ends with the engine's context.
"""

import logging
import os
import shutil
import subprocess
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from ssd.config.choices import Accelerator
from ssd.config.settings import HardwareConfig, ModelConfig
from ssd.errors import HardwareError, one_line
from ssd.generation.engine import Completion, Logprobs, Request, at_hand
from ssd.generation.vllm_log import find_cause, own_cause, printing_to
from ssd.generation.vllm_memory import cache_blocks, memory_share
from ssd.generation.vllm_process import notice_death
from ssd.generation.vllm_settings import (
    MERGE,
    SOCKETS,
    cpu_settings,
    logits_processors,
    lora_rank,
    prepare_environment,
    require_dtype_on_cpu,
    short_folder,
)
from ssd.models.chat import load_tokenizer, stop_token_ids
from ssd.models.reasoning import answer_text, dropped_tokens
from ssd.models.weights import has_experts

SHUTDOWN_SECONDS = 30.0
"""Seconds that vLLM's processes get to end before they are killed."""
TICK_SECONDS = 1.0
"""Seconds between two counts of the tokens of unfinished answers."""


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
        self.on_cpu = hardware.accelerator is Accelerator.cpu
        if self.on_cpu and adapter is not None and has_experts(folder):
            raise HardwareError(
                f"{adapter} adapts a mixture of experts, which vLLM takes on a GPU alone: {MERGE}"
            )
        if self.on_cpu:
            require_dtype_on_cpu(folder, model.dtype)
        self.num_asked = 0
        self.llm: Any = None
        self.tokenizer = load_tokenizer(str(folder))
        self.dropped = dropped_tokens(self.tokenizer, model.reasoning)
        self.stop_token_ids = stop_token_ids(str(folder), self.tokenizer)
        self.scratch = tempfile.TemporaryDirectory(prefix="ssd-vllm-", dir=short_folder())
        self.log = Path(self.scratch.name) / "vllm.log"
        self.keeps_sockets = SOCKETS not in os.environ
        if self.keeps_sockets:
            os.environ[SOCKETS] = self.scratch.name
        if not self.on_cpu:
            print(f"vLLM starts, which takes a minute or two; its log: {self.log}", flush=True)
        settings = {
            "model": str(folder),
            "dtype": model.dtype.value,
            "max_model_len": max_model_len,
            "max_num_seqs": hardware.max_num_seqs,
            "tensor_parallel_size": hardware.engine_devices,
            "gpu_memory_utilization": memory_share(folder, hardware),
            "enforce_eager": not hardware.compile_engine,
            "num_gpu_blocks_override": cache_blocks(folder, hardware, max_model_len),
        }
        with ExitStack() as unless_started:
            unless_started.push(self)
            try:
                with printing_to(self.log):
                    self._start(settings, folder, adapter)
            except (RuntimeError, ValueError, subprocess.CalledProcessError) as error:
                remedy = "" if adapter is None else f"; {MERGE}"
                raise HardwareError(
                    f"vLLM could not load {adapter or folder}: {self._cause(error)}{remedy}"
                ) from error
            unless_started.pop_all()

    def _start(self, settings: dict[str, Any], folder: Path, adapter: Path | None) -> None:
        """Load vLLM, the model and the adapter.

        Raises:
            HardwareError: vLLM is not installed, or takes no adapter of this rank.
            RuntimeError, ValueError: it does not take the model.
            CalledProcessError: a program that vLLM runs about the machine, such as lscpu, fails.
        """
        warnings.filterwarnings("ignore", category=FutureWarning)
        for name in (
            "vllm.triton_utils",
            "torch._library.triton",
        ):  # each warns at every start that CPUs have no Triton
            logging.getLogger(name).setLevel(logging.ERROR)
        try:
            from vllm import LLM
            from vllm.lora.request import LoRARequest

            settings["logits_processors"] = logits_processors(folder, self.on_cpu)
            if self.on_cpu:
                settings |= cpu_settings(folder)
        except ImportError as error:
            raise HardwareError(
                f"vLLM cannot be imported ({one_line(error)[:160]}): "
                "install the cpu or gpu extra as the README says, or use sampler=transformers"
            ) from error
        self.adapter = None if adapter is None else LoRARequest("tuned", 1, str(adapter.resolve()))
        # Not lora_target_modules: vLLM silently passes over what it fuses, such as q_proj, if that
        # setting names it in full as peft does.
        lora = {} if adapter is None else {"enable_lora": True, "max_lora_rank": lora_rank(adapter)}
        self.llm = LLM(
            **settings,
            **lora,
            # A model's own generation_config.json would otherwise change sampling silently.
            generation_config="vllm",
            logprobs_mode="raw_logprobs",
            max_logprobs=-1,
            disable_log_stats=True,
            use_tqdm_on_load=False,
        )
        notice_death(self.llm.llm_engine.engine_core)
        if self.adapter is not None:
            self.llm.llm_engine.add_lora(self.adapter)

    @property
    def num_sequences(self) -> int:
        """Most requests that it draws at once."""
        return int(self.llm.llm_engine.vllm_config.scheduler_config.max_num_seqs)

    def _cause(self, error: BaseException) -> str:
        """Why vLLM failed, in one line, and where its log is kept; `error` says it where the engine
        runs in this process."""
        copy = Path(tempfile.gettempdir()) / f"{Path(self.scratch.name).name}.log"
        shutil.copyfile(self.log, copy)
        cause = find_cause(self.log) or own_cause(one_line(error))
        return f"{cause[:400]} (vLLM's log: {copy})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.llm is not None:
            self.llm.llm_engine.engine_core.shutdown(timeout=SHUTDOWN_SECONDS)
        if self.keeps_sockets:
            del os.environ[SOCKETS]
        self.scratch.cleanup()

    def generate(
        self,
        requests: Iterable[Request | None],
        *,
        logprobs: int | None,
        tick: Callable[[int], None],
    ) -> Iterator[tuple[Request, Completion]]:
        """Each request with its completion, in the order in which they end.

        Raises:
            HardwareError: the engine's process died.
        """
        incoming, unanswered = iter(requests), dict[str, Request]()
        num_ended = num_counted = 0  # tokens
        last_tick = time.monotonic()
        while True:
            unanswered |= self._enqueue(incoming, logprobs)
            if not unanswered:
                break
            with self._explaining_death():
                outputs = self.llm.llm_engine.step()
            for output in outputs:
                if output.finished:
                    completion = self._completion(output.outputs[0], logprobs)
                    num_ended += len(completion.token_ids)
                    yield unanswered.pop(output.request_id), completion
            if time.monotonic() - last_tick > TICK_SECONDS:
                num_drawn = num_ended + self._tokens_in_flight()
                tick(num_drawn - num_counted)
                num_counted, last_tick = num_drawn, time.monotonic()
        tick(num_ended - num_counted)

    def _enqueue(
        self, incoming: Iterator[Request | None], logprobs: int | None
    ) -> dict[str, Request]:
        """Give vLLM the requests that are there; by vLLM's names for them."""
        from vllm import TokensPrompt

        requests = list(at_hand(incoming))
        if requests:
            with self._explaining_death():
                self.llm.enqueue(
                    [TokensPrompt(prompt_token_ids=list(r.prompt_token_ids)) for r in requests],
                    [self.params(request, logprobs) for request in requests],
                    lora_request=self.adapter,
                    use_tqdm=False,
                )
        first, self.num_asked = self.num_asked, self.num_asked + len(requests)
        # The engine numbers requests in the order in which they came.
        return {str(number): request for number, request in enumerate(requests, start=first)}

    def _completion(self, output: Any, num_logprobs: int | None) -> Completion:
        ids = list(output.token_ids)
        return Completion(
            token_ids=ids,
            # vLLM keeps all special tokens or none.
            text=output.text
            if self.dropped is None
            else answer_text(ids, self.tokenizer, self.dropped),
            finish_reason=output.finish_reason,
            logprobs=None if num_logprobs is None else _logprobs(output, num_logprobs),
        )

    @contextmanager
    def _explaining_death(self) -> Iterator[None]:
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            yield
        except EngineDeadError as error:
            raise HardwareError(f"vLLM's process died: {self._cause(error)}") from error

    def _tokens_in_flight(self) -> int:
        states = self.llm.llm_engine.output_processor.request_states.values()
        return sum(state.detokenizer.num_output_tokens() for state in states)

    def params(self, request: Request, logprobs: int | None) -> Any:
        """vLLM's sampling parameters of one request; on CPU this project truncates."""
        plain = sampling_params(request, logprobs, self.stop_token_ids)
        if not self.on_cpu:
            return plain
        from ssd.generation.vllm_truncation import ask

        return ask(plain)


def sampling_params(request: Request, logprobs: int | None, stop_token_ids: list[int]) -> Any:
    """vLLM's sampling parameters, all of them spelled out."""
    from vllm import SamplingParams

    decoding = request.decoding

    return SamplingParams(
        n=1,
        temperature=0.0 if decoding.is_greedy else decoding.temp,
        top_k=decoding.top_k or 0,
        top_p=decoding.top_p,
        min_p=0.0,
        presence_penalty=0.0,
        frequency_penalty=0.0,
        repetition_penalty=1.0,
        seed=request.seed,
        stop=None,
        stop_token_ids=stop_token_ids,
        ignore_eos=False,
        max_tokens=request.max_new_tokens,
        min_tokens=0,
        logprobs=logprobs,
        skip_special_tokens=True,
    )


def _logprobs(output: Any, num_logprobs: int) -> Logprobs:
    """vLLM gives a dictionary per token: the most likely tokens, by rank from 1, and the drawn
    one, which may be among them."""
    ranked = [
        sorted(position.items(), key=lambda entry: entry[1].rank)[:num_logprobs]
        for position in output.logprobs
    ]
    tokens = zip(output.token_ids, output.logprobs, strict=True)
    return Logprobs(
        logprobs=[position[token_id].logprob for token_id, position in tokens],
        topk_token_ids=[[token_id for token_id, _ in top] for top in ranked],
        topk_logprobs=[[entry.logprob for _, entry in top] for top in ranked],
    )
