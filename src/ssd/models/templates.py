"""What a chat template reads and writes: its arguments, its roles, the end of an answer.

Templates are Jinja programs that come with the tokenizer. What can be asked of one is asked by
parsing it, or by rendering a short conversation; nothing here knows a model's name.
"""

import datetime
import functools
import inspect
from collections.abc import Collection
from pathlib import Path
from typing import Any

from ssd.arms import UNIT
from ssd.config.choices import ModelKind, SystemRole
from ssd.config.ranges import require
from ssd.config.settings import ModelConfig, PromptFormatConfig, RunConfig
from ssd.errors import ConfigError, ModelError, one_line
from ssd.models.names import NAMED_TEMPLATES, TEMPLATE, TOKENIZER_CONFIG
from ssd.models.weights import read_model_json
from ssd.problems.benchmarks.registry import prompt_formats

DATE = "2026-04-01"
"""The day that a template gets which asks for today's, where `template_args.date` names none: the
same whenever a run is resumed, for base and tuned model. The month of the paper."""
CLOCK = "strftime_now"
"""The function by which templates ask for the date, as transformers has it."""
RAW = {
    "prompt_format": "prompt_format=raw",
    "eval.prompt_format": "prompt_format@eval.prompt_format=raw",
    "eval.value_prompt_format": "prompt_format@eval.value_prompt_format=raw",
}
"""What lets the prompt format of a setting write plain text."""
SYSTEM, QUESTION, ANSWER = "Answer in Python.", "Add two numbers.", "print(1 + 2)"
"""A conversation to render a template with."""


def template_of(templates: Any) -> str | None:
    """The template that prompts are rendered with, of a tokenizer's one, or of several by name, in
    which transformers takes the one named `default`; None where there is none."""
    if isinstance(templates, list):  # as tokenizer_config.json has them
        templates = {entry["name"]: entry["template"] for entry in templates}
    template: str | None = templates.get("default") if isinstance(templates, dict) else templates
    return template


def stored_template(folder: Path) -> str | None:
    """The template that the tokenizer of the checkpoint in `folder` renders prompts with, without
    loading it. Files of their own win over `tokenizer_config.json`, as in transformers."""
    ordinary = folder / TEMPLATE
    files = {"default": ordinary} if ordinary.is_file() else {}
    files |= {path.stem: path for path in folder.glob(NAMED_TEMPLATES)}
    if files:
        return files["default"].read_text(encoding="utf-8") if "default" in files else None
    config = folder / TOKENIZER_CONFIG
    fields = read_model_json(folder, TOKENIZER_CONFIG) if config.is_file() else {}
    return template_of(fields.get("chat_template"))


def template_variables(tokenizer: Any) -> frozenset[str]:
    """The arguments that `template_args` can give to the chat template: the names that it reads
    from outside, without those that every template gets."""
    everywhere = {
        *inspect.signature(tokenizer.apply_chat_template).parameters,
        *tokenizer.SPECIAL_TOKENS_ATTRIBUTES,
        *("messages", "raise_exception", CLOCK),
    }
    dated = {"date"} if asks_for_date(tokenizer) else set()
    return _outside_names(tokenizer.get_chat_template()) - everywhere | dated


def asks_for_date(tokenizer: Any) -> bool:
    """Whether the chat template may write today's date."""
    return CLOCK in _outside_names(tokenizer.get_chat_template())


@functools.cache
def _outside_names(template: str) -> frozenset[str]:
    """The names that a template reads without having set them. One that it does set counts where
    the template asks whether it is defined, as for its arguments' defaults."""
    from jinja2 import Environment, ext, meta, nodes
    from jinja2.parser import Parser

    class Generation(ext.Extension):
        """transformers' tag around what the assistant says, whose content is all that counts."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Parser) -> list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    tree = Environment(extensions=[ext.loopcontrols, Generation]).parse(template)
    own = {name.name for name in tree.find_all(nodes.Name) if name.ctx == "store"}
    asked = {
        node.node.name
        for node in tree.find_all((nodes.Test, nodes.Filter))
        if node.name in ("defined", "undefined", "default", "d")
        if isinstance(node.node, nodes.Name)
    }
    return frozenset(meta.find_undeclared_variables(tree) - (own - asked))


def render(
    messages: list[dict[str, str]], model: ModelConfig, tokenizer: Any, *, answer_follows: bool
) -> str:
    """A conversation as text, with the model's template arguments.

    Args:
        answer_follows: end with the prompt for the model's answer; otherwise the last message is
            that answer.

    Raises:
        ModelError: the template refuses the conversation, or fails.
    """
    arguments = dict(model.template_args)
    if asks_for_date(tokenizer):
        # An argument hides the function of the same name that transformers gives every template.
        arguments[CLOCK] = datetime.date.fromisoformat(str(arguments.get("date", DATE))).strftime
    try:
        text: str = tokenizer.apply_chat_template(
            messages, add_generation_prompt=answer_follows, tokenize=False, **arguments
        )
    except Exception as error:  # a template is a program and may raise anything
        raise ModelError(
            f"the chat template of {name_of(model)} does not render this prompt "
            f"({one_line(error)[:200]}): give it what it asks for with model.template_args, "
            f"or use {' '.join(RAW.values())}"
        ) from error
    return text


def system_fault(model: ModelConfig, tokenizer: Any) -> str | None:
    """What the template does to a system message, in words; None where it renders it."""
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}]
    try:
        text = render(messages, model, tokenizer, answer_follows=True)
    except ModelError as error:
        return f"refuses a system message ({error.__cause__})"
    return None if SYSTEM in text else "leaves a system message out"


def answer_form(model: ModelConfig, tokenizer: Any) -> tuple[str, str, str] | None:
    """How the template writes an answer, in three texts: the prompt for it; what stands between
    this prompt and the answer; what follows the answer. None where an answer does not follow the
    prompt for it, as where only the prompt opens reasoning.

    Raises:
        ModelError: the template fails.
    """
    messages = [{"role": "user", "content": QUESTION}]
    prompt = render(messages, model, tokenizer, answer_follows=True)
    exchange = [*messages, {"role": "assistant", "content": ANSWER}]
    whole = render(exchange, model, tokenizer, answer_follows=False)
    before, answer, behind = whole.rpartition(ANSWER)
    if not answer or not before.startswith(prompt):
        return None
    return prompt, before.removeprefix(prompt), behind


def end_token(model: ModelConfig, tokenizer: Any, stops: Collection[int]) -> int | None:
    """The token by which the template ends an answer: the first of `stops` that it writes behind
    one; None where it writes none."""
    form = answer_form(model, tokenizer)
    ids = [] if form is None else tokenizer(form[2], add_special_tokens=False)["input_ids"]
    return next((token for token in ids if token in stops), None)


def name_of(model: ModelConfig) -> str:
    """The checkpoint as its user named it."""
    return model.path or model.name


def check_templates(config: RunConfig, tokenizer: Any, stops: Collection[int]) -> None:
    """Render, before any stage starts, what the stages will render.

    Args:
        stops: the tokens that end an answer.

    Raises:
        ConfigError, ModelError: one line that names the setting and the remedy.
    """
    chats = _chats(config)
    raw = " ".join(RAW[setting] for setting, _, _ in chats)
    for _, prompt_format, model in chats:
        if tokenizer.chat_template is None:
            raise ConfigError(
                f"the tokenizer of {name_of(model)} has no chat template: use {raw}, "
                "or an instruct model"
            )
        _check_source(raw, model, tokenizer)
        _check_arguments(config, model, tokenizer)
        _check_user(raw, model, tokenizer)
        if prompt_format.system is not None:
            unset = " ".join(f"{setting}.system=null" for setting, chat, _ in chats if chat.system)
            _check_system(unset, model, tokenizer)
        if prompt_format.train_as_chat:
            _check_answers(model, tokenizer, stops)


def assumes_date(config: RunConfig, tokenizer: Any) -> bool:
    """Whether the template asks for today's date in this run and gets `DATE`."""
    undated = ["date" not in model.template_args for _, _, model in _chats(config)]
    return any(undated) and asks_for_date(tokenizer)


def _chats(config: RunConfig) -> list[tuple[str, PromptFormatConfig, ModelConfig]]:
    """The prompt formats that the run renders with the template, each with its setting."""
    sampling = config.prompt_format
    samples = config.train.corpus is None or UNIT in config.eval.controls
    chats = []
    if "sample" in config.stages and samples and (sampling.chat or sampling.train_as_chat):
        chats.append(("prompt_format", sampling, config.model))
    if "evaluate" in config.stages:
        chats += [
            (setting, asked, config.eval_model)
            for setting, asked in prompt_formats(config.eval).items()
            if asked.chat
        ]
    return chats


def uses_template(config: RunConfig) -> bool:
    """Whether any stage of the run renders prompts with the template."""
    return bool(_chats(config))


def _check_source(raw: str, model: ModelConfig, tokenizer: Any) -> None:
    from jinja2 import TemplateSyntaxError

    templates = tokenizer.chat_template
    if template_of(templates) is None:
        raise ConfigError(
            f"{name_of(model)} has chat templates {' and '.join(sorted(templates))} and none named "
            f"default: name one of them so, where they are, or use {raw}"
        )
    try:
        template_variables(tokenizer)
    except TemplateSyntaxError as error:
        raise ModelError(
            f"the chat template of {name_of(model)} is no Jinja (line {error.lineno}: "
            f"{one_line(error).rstrip('.')}): copy or download its files again, or use {raw}"
        ) from error


def _check_user(raw: str, model: ModelConfig, tokenizer: Any) -> None:
    messages = [{"role": "user", "content": QUESTION}]
    require(
        QUESTION in render(messages, model, tokenizer, answer_follows=True),
        f"the chat template of {name_of(model)} leaves out what the user says, as one for content "
        "in parts does: let it write message.content where that is text, "
        f"or use {raw}",
    )


def _check_system(unset: str, model: ModelConfig, tokenizer: Any) -> None:
    if model.kind is ModelKind.instruct and model.system_role is SystemRole.system:
        fault = system_fault(model, tokenizer)
        require(
            fault is None,
            f"the chat template of {name_of(model)} {fault}: put it in front of the user's with "
            f"model.system_role=user, or leave it out with {unset}",
        )


def _check_arguments(config: RunConfig, model: ModelConfig, tokenizer: Any) -> None:
    known = sorted(template_variables(tokenizer))
    for name, value in model.template_args.items():
        group = "eval" if name in config.eval.template_args else "model"
        require(
            name in known,
            f"{group}.template_args.{name}={value}: the chat template of {name_of(model)} reads "
            f"{' and '.join(known) or 'no arguments'}, not {name}: leave it out",
        )


def _check_answers(model: ModelConfig, tokenizer: Any, stops: Collection[int]) -> None:
    form = answer_form(model, tokenizer)
    between = "" if form is None else form[1]
    special = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    framed = special & {*tokenizer(between, add_special_tokens=False)["input_ids"]}
    if form is None or framed:
        fault = "writes no answer right behind its prompt"
    elif end_token(model, tokenizer, stops) is None:
        fault = f"writes no stop token behind an answer, but {form[2]!r}"
    else:
        return
    raise ConfigError(
        "prompt_format.train_as_chat=true trains answers to plain text as chat, and the chat "
        f"template of {name_of(model)} {fault}: sample from chat too, as prompt_format=lcb does"
    )
