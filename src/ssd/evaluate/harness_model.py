"""A run's model as EleutherAI's harness asks it: text in, text out, drawn by the engine of the run.

The harness's own rules hold: its prompts, its stop strings, its decoding.
"""

import argparse
from collections.abc import Sequence
from contextlib import closing
from typing import Any, NoReturn

from lm_eval import simple_evaluate
from lm_eval.api.model import LM
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text
from lm_eval.tasks import TaskManager

from ssd.config.settings import ModelConfig
from ssd.errors import ConfigError, one_line
from ssd.generation import Request
from ssd.generation.engines import LazyEngine, run_engine
from ssd.generation.requests import request_seed
from ssd.generation.shards import AnswerBar
from ssd.method.decoding import Decoding
from ssd.models.chat import load_tokenizer
from ssd.models.reasoning import opens_reasoning
from ssd.models.templates import render
from ssd.models.weights import model_length
from ssd.problems.extraction import final_answer
from ssd.run import Run, lineage

MAX_NEW_TOKENS = 1024
"""Where a task sets no limit."""
MAX_MODEL_LEN = 32768
"""Where neither the run nor the model does."""
KNOWN = {"do_sample", "until", "max_gen_toks", "temperature", "top_k", "top_p"}
"""Of a task's settings, those that the engines know."""


def answer_tasks(
    run: Run, model: str, options: argparse.Namespace
) -> list[tuple[str, str, str, dict[str, float]]]:
    """Task, filter, metric, and what each document scored, of all tasks that the options name.

    Raises:
        ConfigError: a task is unknown, cannot be loaded, or asks for what engines do not do.
    """
    manager = TaskManager(include_path=options.include and str(options.include))
    try:
        manager.load(options.tasks)
    except (KeyError, ValueError, OSError) as error:
        raise ConfigError(f"--tasks {','.join(options.tasks)}: {one_line(error)[:300]}") from error
    length = run.config.eval.max_model_len or model_length(lineage.model_folder(run, model))
    with run_engine(run, model, max_model_len=length) as engine:
        answering = HarnessModel(
            engine, load_tokenizer(run.weights.path), run.config.eval_model,
            seed=run.config.seed, max_model_len=length or MAX_MODEL_LEN, plain=options.plain,
        )  # fmt: skip
        results = simple_evaluate(
            answering,
            tasks=options.tasks,
            num_fewshot=options.num_fewshot,
            limit=options.limit,
            bootstrap_iters=0,
            apply_chat_template=not options.plain,
            task_manager=manager,
        )
    return scores_by_measure(results["samples"])


def scores_by_measure(
    samples: dict[str, list[dict[str, Any]]],
) -> list[tuple[str, str, str, dict[str, float]]]:
    """What each document scored, from the harness's records; of several parts, as an instruction's
    have, the mean. Metrics that are not numbers, such as those of a corpus as a whole, are left
    out."""
    scores: dict[tuple[str, str, str], dict[str, float]] = {}
    for task, rows in samples.items():
        for row in rows:
            for metric in row["metrics"]:
                parts = row[metric] if isinstance(row[metric], list) else [row[metric]]
                if parts and all(isinstance(part, bool | int | float) for part in parts):
                    its = scores.setdefault((task, row["filter"], metric), {})
                    its[str(row["doc_id"])] = sum(parts) / len(parts)
    return [(*measure, its) for measure, its in scores.items()]


class HarnessModel(LM):
    """An engine that answers the harness."""

    def __init__(
        self,
        engine: LazyEngine,
        tokenizer: Any,
        model: ModelConfig,
        *,
        seed: int,
        max_model_len: int,
        plain: bool,
    ) -> None:
        super().__init__()
        self.plain = plain
        self.engine, self.tokenizer, self.model = engine, tokenizer, model
        self.seed, self.max_model_len = seed, max_model_len

    @property
    def tokenizer_name(self) -> str:
        """For the harness's own records."""
        return str(self.model.name)

    def chat_template(self, chat_template: bool | str = False) -> str | None:
        """The template, for the harness's own records."""
        return self.tokenizer.chat_template if chat_template else None

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """A chat as the text that the model reads."""
        return render(
            chat_history, self.model, self.tokenizer, answer_follows=add_generation_prompt
        )

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """An answer to each request, cut at its stop strings.

        Raises:
            ConfigError: a task sets what engines do not know, or a prompt is too long.
        """
        asked = [self._request(number, *request.args) for number, request in enumerate(requests)]
        texts: dict[int, str] = {}
        with closing(AnswerBar("answering", len(asked), 0)) as bar:
            answers = self.engine.get().generate(
                [request for request, _ in asked], logprobs=None, tick=bar.tick
            )
            for request, completion in answers:
                bar.bar.update(1)
                texts[request.part] = self._answer(request, completion.text)
        return [
            postprocess_generated_text(texts[number], until, None)
            for number, (_, until) in enumerate(asked)
        ]

    def _request(
        self, number: int, context: str, settings: dict[str, Any]
    ) -> tuple[Request, Sequence[str]]:
        settings = dict(normalize_gen_kwargs(settings, default_max_gen_toks=MAX_NEW_TOKENS))
        if unknown := sorted(settings.keys() - KNOWN):
            raise ConfigError(
                f"a task of --tasks sets {', '.join(unknown)} for its answers, which no engine "
                f"here knows: leave it out"
            )
        # A chat's text has them already.
        ids = self.tokenizer(context, add_special_tokens=self.plain)["input_ids"]
        room = self.max_model_len - len(ids)
        if room < 1:
            raise ConfigError(
                f"a prompt of --tasks has {len(ids)} tokens, and the run's eval.max_model_len is "
                f"{self.max_model_len}: lower --num-fewshot, or use a run that takes longer ones"
            )
        decoding = Decoding(
            settings["temperature"], settings.get("top_k") or None, settings.get("top_p", 1.0)
        )
        request = Request(
            prompt_id=f"request {number}",
            sample_index=0,
            prompt_token_ids=ids,
            seed=request_seed(self.seed, f"{number}\0{context}", 0),
            max_new_tokens=min(settings["max_gen_toks"], room),
            decoding=decoding,
            part=number,
        )
        return request, settings["until"]

    def _answer(self, request: Request, text: str) -> str:
        """What follows the reasoning of a model that reasons."""
        marks = self.model.reasoning
        if marks is None:
            return text
        opened = opens_reasoning(list(request.prompt_token_ids), self.tokenizer, marks)
        return final_answer(text, marks, opened=opened).lstrip()

    def loglikelihood(self, requests: list[Any]) -> NoReturn:
        """Refused: engines here draw answers.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(
            f"{requests[0].task_name} of --tasks compares the probabilities of given answers, and "
            "engines here draw answers: name a task with output_type generate_until"
        )

    def loglikelihood_rolling(self, requests: list[Any]) -> NoReturn:
        """Refused, as `loglikelihood`.

        Raises:
            ConfigError: always.
        """
        self.loglikelihood(requests)
