"""The items of the check that read what a model is told and says: its end tokens, chat template,
marks of reasoning and vocabulary."""

import dataclasses

from ssd.arms import counted
from ssd.check.subject import Subject
from ssd.errors import ModelError
from ssd.models.chat import ends_of
from ssd.models.names import GENERATION_CONFIG, MODEL_CONFIG
from ssd.models.reasoning import find_reasoning, opens_reasoning, refuse_reasoning_as_chat
from ssd.models.templates import (
    DATE,
    QUESTION,
    answer_form,
    assumes_date,
    check_templates,
    end_token,
    render,
    system_fault,
    uses_template,
)
from ssd.models.vocabulary import unnamed_ids
from ssd.models.weights import read_model_json, vocabulary_size
from ssd.runtime.findings import Finding, State, ok, refused


def generation_config(subject: Subject) -> Finding:
    """The defaults for decoding that come with the model, of which only end tokens count here."""
    if not subject.stops:
        return Finding(
            item="generation",
            state=State.note,
            text="no end token, so every answer runs to sampler.max_new_tokens: if the model has "
            f"one, set eos_token_id in its {MODEL_CONFIG}",
        )
    ends = f"answers end at {_tokens(subject, subject.stops)}"
    defaults = ends_of(vars(subject.architecture.get_text_config())) - {*subject.stops}
    if defaults:
        ends += f", not at {_tokens(subject, sorted(defaults))}, a default that no file names"
    if not (subject.folder / GENERATION_CONFIG).is_file():
        return ok("generation", f"{ends}; no {GENERATION_CONFIG}")
    fields = read_model_json(subject.folder, GENERATION_CONFIG)
    asks = [
        f"{name} {fields[name]}" for name in ("temperature", "top_k", "top_p") if name in fields
    ]
    asked = f" ({', '.join(asks)})" if asks else ""
    return ok(
        "generation",
        f"{ends}; {GENERATION_CONFIG} is exported as it is, and only its end tokens count "
        f"here{asked}",
    )


def template(subject: Subject) -> Finding:
    """Prompts and answers as chat: with each role, and ended by a token."""
    model, tokenizer = subject.config.model, subject.tokenizer
    check_templates(subject.config, tokenizer, subject.stops)
    if not uses_template(subject.config):
        return ok("template", "not used: this run renders no prompt as chat")
    system = system_fault(model, tokenizer)
    parts = [
        "a user's message",
        "a system message" if system is None else f"it {system}",
        _ending(subject),
    ]
    if not assumes_date(subject.config, tokenizer):
        return ok("template", "; ".join(parts))
    parts.append(f"asks for the date and gets {DATE} on any day, unless template_args.date is set")
    return Finding(item="template", state=State.note, text="; ".join(parts))


def reasoning(subject: Subject) -> Finding:
    """The marks around reasoning, and whether prompts open it."""
    settings, tokenizer = subject.config.model, subject.tokenizer
    marks = find_reasoning(tokenizer, settings)
    if marks is None:
        return ok("reasoning", "no marks: the whole text is the answer")
    model = dataclasses.replace(settings, reasoning=marks)
    refuse_reasoning_as_chat(subject.config.prompt_format, model, tokenizer)
    opened = ""
    if uses_template(subject.config):
        asked = render(
            [{"role": "user", "content": QUESTION}], model, tokenizer, answer_follows=True
        )
        prompt = tokenizer(asked, add_special_tokens=False)["input_ids"]
        opened = ", opened by the prompt" if opens_reasoning(prompt, tokenizer, marks) else ""
    return ok("reasoning", f"from {marks.open} to {marks.close}{opened}; answers follow it")


def vocabulary(subject: Subject) -> Finding:
    """Rows of the embedding against tokens of the tokenizer."""
    rows, tokens = vocabulary_size(subject.folder), len(subject.tokenizer)
    if tokens > rows:
        return refused(
            "vocabulary",
            f"the tokenizer has {tokens:,} tokens and {MODEL_CONFIG} {rows:,} rows: use the "
            "tokenizer of these weights",
        )
    unnamed = len(unnamed_ids(subject.folder))
    beyond = (
        f"; {counted(unnamed, 'row')} without a token, never drawn nor trained" if unnamed else ""
    )
    return ok("vocabulary", f"{tokens:,} tokens{beyond}")


def _tokens(subject: Subject, ids: list[int]) -> str:
    return " and ".join(f"{subject.tokenizer.decode([token])!r} ({token})" for token in ids)


def _ending(subject: Subject) -> str:
    """How the template ends an answer, in words."""
    model, tokenizer = subject.config.model, subject.tokenizer
    try:
        follows = answer_form(model, tokenizer) is not None
    except ModelError as error:  # only answers to plain text need it, and those have been asked
        return f"it refuses an answer ({error.__cause__})"
    if not follows:
        return "an answer in it does not follow the prompt for it"
    end = end_token(model, tokenizer, subject.stops)
    if end is None:
        return "no stop token behind an answer"
    return f"an answer ends with {tokenizer.decode([end])!r}"
