"""A plain transformers engine: for machines without vLLM, and an independent check of it.

B rows, T tokens, V vocabulary.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from ssd.config.choices import Accelerator
from ssd.config.settings import HardwareConfig, ModelConfig
from ssd.generation.engine import Completion, Logprobs, Request, at_hand
from ssd.method.truncation import tempered_probabilities
from ssd.models.chat import load_tokenizer, stop_token_ids
from ssd.models.reasoning import answer_text, dropped_tokens
from ssd.models.vocabulary import unnamed_ids
from ssd.runtime.progress import silence_loading_bars

MAX_BATCH = 16
"""Most rows decoded together; a batch runs until its longest row ends, so larger ones wait
longer."""


class TransformersEngine:
    """A checkpoint loaded with transformers; every row draws from its own seeded generator."""

    def __init__(
        self,
        folder: Path,
        model: ModelConfig,
        hardware: HardwareConfig,
        *,
        max_model_len: int | None,  # its cache grows as it decodes
        adapter: Path | None = None,
    ) -> None:
        from transformers import AutoModelForCausalLM

        silence_loading_bars()
        self.num_sequences = min(hardware.max_num_seqs or MAX_BATCH, MAX_BATCH)
        self.device = torch.device("cuda" if hardware.accelerator is Accelerator.gpu else "cpu")
        network: Any = AutoModelForCausalLM.from_pretrained(
            folder, dtype=getattr(torch, model.dtype.value)
        )
        if adapter is not None:
            from peft import PeftModel

            network = PeftModel.from_pretrained(network, adapter)
        self.network = network.to(self.device).eval()
        self.tokenizer = load_tokenizer(str(folder))
        self.dropped = dropped_tokens(self.tokenizer, model.reasoning)
        self.stops = set(stop_token_ids(str(folder), self.tokenizer))
        self.unnamed = torch.tensor(unnamed_ids(folder), dtype=torch.long, device=self.device)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        del self.network  # all it holds; it has no process of its own

    def generate(
        self,
        requests: Iterable[Request | None],
        *,
        logprobs: int | None,
        tick: Callable[[int], None],
    ) -> Iterator[tuple[Request, Completion]]:
        """Each request with its completion, a batch after the other."""
        incoming = iter(requests)
        while batch := list(itertools.islice(at_hand(incoming), self.num_sequences)):
            yield from zip(batch, self._batch(batch, logprobs, tick), strict=True)

    @torch.inference_mode()
    def _batch(
        self,
        requests: Sequence[Request],
        num_logprobs: int | None,
        tick: Callable[[int], None],
    ) -> list[Completion]:
        from transformers import DynamicCache

        ids, mask = self._left_padded([request.prompt_token_ids for request in requests])  # (B, T)
        generators = [
            torch.Generator(self.device).manual_seed(request.seed) for request in requests
        ]
        caps = [request.max_new_tokens for request in requests]
        rows = [_Row() for _ in requests]
        active = set(range(len(requests)))
        cache = DynamicCache(config=self.network.config)
        while active:
            tick(len(active))
            positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
            logits = self.network(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                logits_to_keep=1,
            ).logits[:, -1]  # (B, V)
            tokens = self._draw(logits, requests, generators)  # (B,)
            for row in list(active):
                rows[row].add(int(tokens[row]), logits[row], num_logprobs)
                if int(tokens[row]) in self.stops or len(rows[row].token_ids) == caps[row]:
                    active.remove(row)
            ids = tokens[:, None]
            mask = torch.cat([mask, torch.ones_like(ids)], dim=-1)
        return [self._completion(row, num_logprobs) for row in rows]

    def _left_padded(self, prompts: list[Sequence[int]]) -> tuple[Tensor, Tensor]:
        longest = max(len(prompt) for prompt in prompts)
        ids = torch.zeros(len(prompts), longest, dtype=torch.long)  # (B, T)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, longest - len(prompt) :] = torch.tensor(prompt)
            mask[row, longest - len(prompt) :] = 1
        return ids.to(self.device), mask.to(self.device)

    def _draw(
        self, logits: Tensor, requests: Sequence[Request], generators: list[torch.Generator]
    ) -> Tensor:
        if len(self.unnamed):  # a copy: log-probabilities are the model's own
            logits = logits.index_fill(-1, self.unnamed, -torch.inf)
        tokens = logits.argmax(-1)
        decodings = [request.decoding for request in requests]
        for decoding in dict.fromkeys(decodings):
            if decoding.is_greedy:
                continue
            rows = [row for row, own in enumerate(decodings) if own == decoding]
            probabilities = tempered_probabilities(
                logits[rows], decoding.temp, decoding.top_k, decoding.top_p
            )  # (b, V)
            for row, own in zip(rows, probabilities, strict=True):
                tokens[row] = torch.multinomial(own, 1, generator=generators[row])
        return tokens

    def _completion(self, row: "_Row", num_logprobs: int | None) -> Completion:
        return Completion(
            token_ids=row.token_ids,
            text=answer_text(row.token_ids, self.tokenizer, self.dropped),
            finish_reason="stop" if row.token_ids[-1] in self.stops else "length",
            logprobs=None if num_logprobs is None else row.logprobs,
        )


class _Row:
    """An answer that is being drawn."""

    def __init__(self) -> None:
        self.token_ids: list[int] = []
        self.logprobs = Logprobs(logprobs=[], topk_token_ids=[], topk_logprobs=[])

    def add(self, token_id: int, logits: Tensor, num_logprobs: int | None) -> None:
        """Take a token, drawn from `logits` (V,)."""
        self.token_ids.append(token_id)
        if num_logprobs is not None:
            logprobs = logits.float().log_softmax(-1)
            top = logprobs.topk(num_logprobs)
            self.logprobs.logprobs.append(float(logprobs[token_id]))
            self.logprobs.topk_token_ids.append(top.indices.tolist())
            self.logprobs.topk_logprobs.append(top.values.tolist())
