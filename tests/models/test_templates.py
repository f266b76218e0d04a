import datetime
import functools
import shutil
from pathlib import Path
from typing import Any

import pytest
import templates
from checkpoints import change_json
from runs import compose_config

from ssd.config.settings import ModelConfig, RunConfig
from ssd.errors import ConfigError, ModelError
from ssd.models import Weights
from ssd.models.chat import load_tokenizer
from ssd.models.reasoning import find_reasoning, pin_reasoning
from ssd.models.templates import (
    DATE,
    answer_form,
    asks_for_date,
    assumes_date,
    check_templates,
    end_token,
    render,
    stored_template,
    system_fault,
    template_of,
    template_variables,
)
from ssd.models.weights import locate
from ssd.problems.extraction import THINK

NAMED = "additional_chat_templates"
RAW = ("prompt_format=raw", "prompt_format@eval.prompt_format=raw")
USER = [{"role": "user", "content": "hi"}]


@pytest.fixture
def tokenizer(tiny_weights: Weights) -> Any:
    return load_tokenizer(tiny_weights.path)


def written_by(template: str, tokenizer: Any) -> Any:
    tokenizer.chat_template = template
    return tokenizer


def model_of(**template_args: object) -> ModelConfig:
    return ModelConfig(name="tiny", template_args=template_args)


@functools.cache
def composed(*overrides: str) -> RunConfig:
    return compose_config("model=tiny", *overrides)


def check(template: str | None, tokenizer: Any, *overrides: str) -> None:
    tokenizer.chat_template = template
    check_templates(composed(*overrides), tokenizer, [tokenizer.eos_token_id])


@pytest.mark.parametrize(
    ("template", "variables"),
    [
        (templates.CHAT, set()),
        (templates.HYBRID, {"enable_thinking"}),
        (templates.MARKED, {"reasoning_effort"}),
        (templates.DATED, {"date"}),
        (templates.DATE_BY_DEFAULT, {"date", "date_string"}),
    ],
)
def test_the_variables_of_a_template_are_the_arguments_that_change_it(
    tokenizer: Any, template: str, variables: set[str]
) -> None:
    assert template_variables(written_by(template, tokenizer)) == variables


@pytest.mark.parametrize("template", [templates.DATED, templates.DATE_BY_DEFAULT])
def test_the_date_is_the_settings_and_never_todays(tokenizer: Any, template: str) -> None:
    written_by(template, tokenizer)
    assert asks_for_date(tokenizer)
    dated = render(USER, model_of(date="2026-01-31"), tokenizer, answer_follows=True)
    assert "Today: 31 Jan 2026" in dated
    undated = render(USER, model_of(), tokenizer, answer_follows=True)
    assert f"Today: {datetime.date.fromisoformat(DATE):%d %b %Y}" in undated
    # transformers' own function is as it was
    today = f"{datetime.date.today():%d %b %Y}"
    assert today in tokenizer.apply_chat_template(USER, tokenize=False)


def test_an_assumed_date_is_known_before_the_first_token(tokenizer: Any) -> None:
    written_by(templates.DATED, tokenizer)
    assert assumes_date(composed(), tokenizer)
    assert not assumes_date(composed("model.template_args={date: 2026-01-31}"), tokenizer)
    assert not assumes_date(composed(*RAW), tokenizer)
    assert not assumes_date(composed(), written_by(templates.CHAT, tokenizer))


def test_arguments_reach_the_template(tokenizer: Any) -> None:
    written_by(templates.HYBRID, tokenizer)
    thinks, answers = (
        render(USER, model_of(**arguments), tokenizer, answer_follows=True)
        for arguments in ({}, {"enable_thinking": False})
    )
    assert answers.removeprefix(thinks) == "<think>\n\n</think>\n\n"


def test_an_argument_that_the_template_never_reads_is_refused_with_those_it_reads(
    tokenizer: Any,
) -> None:
    with pytest.raises(ConfigError, match=r"model.template_args.thinking=.* enable_thinking,"):
        check(templates.HYBRID, tokenizer, "model.template_args={thinking: false}")
    with pytest.raises(ConfigError, match=r"eval.template_args.date=.* enable_thinking,"):
        check(templates.HYBRID, tokenizer, "eval.template_args={date: 2026-01-31}")
    with pytest.raises(ConfigError, match=r"template_args.add_generation_prompt=False.*no arg"):
        check(templates.CHAT, tokenizer, "model.template_args={add_generation_prompt: false}")
    check(templates.HYBRID, tokenizer, "model.template_args={enable_thinking: false}")
    check(templates.DATED, tokenizer, "model.template_args={date: 2026-01-31}")
    # Nothing is rendered, so nothing is asked for.
    check(None, tokenizer, *RAW)


def test_evaluation_may_take_away_an_argument(tokenizer: Any) -> None:
    config = composed(
        "model.template_args={enable_thinking: false, date: 2026-01-31}",
        "eval.template_args={enable_thinking: null}",
    )
    assert config.eval_model.template_args == {"date": "2026-01-31"}


@pytest.mark.parametrize("template", [templates.NO_SYSTEM_ROLE, templates.DROPS_SYSTEM])
def test_a_template_without_a_system_role_is_refused_with_the_setting_that_helps(
    tokenizer: Any, template: str
) -> None:
    with pytest.raises(ConfigError, match=r"model.system_role=user.* prompt_format.system=null"):
        check(template, tokenizer)
    with pytest.raises(ConfigError, match=r"eval.prompt_format.system=null"):
        check(template, tokenizer, "prompt_format=lcb")
    check(template, tokenizer, "model.system_role=user")
    check(template, tokenizer, "model.kind=thinking")
    check(template, tokenizer, "prompt_format=lcb", "stages=[sample]")


def test_what_a_template_does_with_a_system_message_is_said(tokenizer: Any) -> None:
    refusal = system_fault(model_of(), written_by(templates.NO_SYSTEM_ROLE, tokenizer))
    assert refusal is not None and "System role not supported" in refusal
    assert system_fault(model_of(), written_by(templates.DROPS_SYSTEM, tokenizer)) is not None
    assert system_fault(model_of(), written_by(templates.CHAT, tokenizer)) is None


def test_a_tokenizer_without_a_chat_template_is_refused_where_one_is_needed(
    tokenizer: Any,
) -> None:
    with pytest.raises(ConfigError, match="use prompt_format=raw"):
        check(None, tokenizer)
    with pytest.raises(ConfigError, match=r"use prompt_format@eval\.prompt_format=raw"):
        check(None, tokenizer, "prompt_format=raw")
    check(None, tokenizer, "prompt_format=raw", "stages=[sample]")


def test_a_template_that_leaves_out_what_the_user_says_is_refused(tokenizer: Any) -> None:
    with pytest.raises(ConfigError, match=r"message.content.* prompt_format=raw"):
        check(templates.IN_PARTS, tokenizer, "model.system_role=user")
    check(templates.IN_PARTS, tokenizer, *RAW)


def test_a_template_that_fails_is_one_line_with_its_own_words(tokenizer: Any) -> None:
    written_by("{{ raise_exception('set a\nlevel') }}", tokenizer)
    with pytest.raises(ModelError, match=r"set a level.*template_args") as failure:
        render(USER, model_of(), tokenizer, answer_follows=True)
    assert "\n" not in str(failure.value)


def test_an_answer_ends_with_the_stop_token_that_the_template_writes_first(tokenizer: Any) -> None:
    stop = tokenizer.eos_token_id
    for template in (templates.CHAT, templates.HYBRID, templates.MARKED):
        assert end_token(model_of(), written_by(template, tokenizer), [stop]) == stop
    assert end_token(model_of(), written_by(templates.CHAT, tokenizer), []) is None
    assert end_token(model_of(), written_by(templates.ENDLESS, tokenizer), [stop]) is None


def test_the_form_of_an_answer_is_read_from_the_template(tokenizer: Any) -> None:
    form = answer_form(model_of(), written_by(templates.HYBRID, tokenizer))
    assert form is not None
    assert form[1:] == ("<think>\n\n</think>\n\n", "<|im_end|>\n")
    assert answer_form(model_of(), written_by(templates.OPENS_THINK, tokenizer)) is None


@pytest.mark.parametrize("template", [templates.OPENS_THINK, templates.CHANNELS, templates.ENDLESS])
def test_answers_that_do_not_follow_the_prompt_are_not_trained_as_chat(
    tokenizer: Any, template: str
) -> None:
    check(template, tokenizer, "prompt_format=lcb", "prompt_format@eval.prompt_format=lcb")
    with pytest.raises(ConfigError, match=r"prompt_format\.train_as_chat=true"):
        check(template, tokenizer, "experiment=apple_release")


def test_a_corpus_that_exists_needs_no_sampling_format(tokenizer: Any) -> None:
    settings = ("prompt_format@eval.prompt_format=lcb", "train.corpus=folder")
    check(templates.NO_SYSTEM_ROLE, tokenizer, *settings)
    with pytest.raises(ConfigError, match="system_role=user"):
        check(templates.NO_SYSTEM_ROLE, tokenizer, *settings, "eval.controls=[t1]")


def test_mistral_commons_tokenizer_is_not_taken_for_the_checkpoints(
    tiny_weights: Weights, tmp_path: Path
) -> None:
    folder = templates.checkpoint_with(templates.CHAT, tiny_weights, tmp_path / "mistral")
    (folder / "tekken.json").write_text("{}", encoding="utf-8")
    assert load_tokenizer(str(folder)).chat_template == templates.CHAT


LAYOUTS: dict[str, tuple[dict[str, str], Any, str | None]] = {
    "a file": ({"chat_template.jinja": "a"}, None, "a"),
    "a field": ({}, "a", "a"),
    "a file and a field": ({"chat_template.jinja": "a"}, "b", "a"),
    "a list": ({}, [{"name": "rag", "template": "b"}, {"name": "default", "template": "a"}], "a"),
    "a list without a default": ({}, [{"name": "rag", "template": "b"}], None),
    "a file and named ones": ({"chat_template.jinja": "a", f"{NAMED}/rag.jinja": "b"}, "c", "a"),
    "a named default": ({"chat_template.jinja": "b", f"{NAMED}/default.jinja": "a"}, None, "a"),
    "named ones alone": ({f"{NAMED}/rag.jinja": "b"}, "c", None),
    "a processor's": ({"chat_template.json": '{"chat_template": "b"}'}, "a", "a"),
    "none": ({}, None, None),
}


@pytest.mark.parametrize(("files", "field", "template"), LAYOUTS.values(), ids=LAYOUTS)
def test_the_template_in_a_models_files_is_the_one_that_transformers_renders(
    tiny_weights: Weights, tmp_path: Path, files: dict[str, str], field: Any, template: str | None
) -> None:
    folder = Path(shutil.copytree(tiny_weights.path, tmp_path / "model"))
    (folder / "chat_template.jinja").unlink()
    (folder / NAMED).mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    change_json(folder, "tokenizer_config.json", chat_template=field)
    tokenizer = load_tokenizer(str(folder))
    assert stored_template(folder) == template_of(tokenizer.chat_template) == template
    if template is not None:
        assert tokenizer.get_chat_template() == template


def test_a_named_template_is_part_of_the_tokenizer_and_decides_no_marks(
    tiny_weights: Weights, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_weights.path, tmp_path / "model"))
    model = ModelConfig(name="mine", path=str(folder))
    before = locate(model)
    (folder / NAMED).mkdir()
    (folder / NAMED / "rag.jinja").write_text(templates.OPENS_THINK)
    named = locate(model)
    assert before is not None and named is not None
    assert before.tokenizer == tiny_weights.tokenizer != named.tokenizer
    assert pin_reasoning(model, folder).reasoning is None
    assert find_reasoning(load_tokenizer(str(folder)), model) is None
    (folder / NAMED / "default.jinja").write_text(templates.OPENS_THINK)
    assert pin_reasoning(model, folder).reasoning == THINK
    assert find_reasoning(load_tokenizer(str(folder)), model) == THINK
