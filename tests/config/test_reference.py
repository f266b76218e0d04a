"""Every setting is explained, and found by its name and by the words of other tools."""

import pytest

from ssd.config.__main__ import main
from ssd.config.mistakes import no_such_setting
from ssd.config.neighbours import SETTINGS, WORDS, meant_by
from ssd.config.reference import reference


def test_every_setting_has_a_sentence() -> None:
    settings = reference()
    assert [name for name, setting in settings.items() if len(setting.sentence) < 10] == []


@pytest.mark.parametrize(
    ("typed", "ours"),
    [
        ("train.lr", ["optimizer.lr"]),
        ("lr", ["optimizer.lr"]),
        ("learning-rate", ["optimizer.lr"]),
        ("train.lr_scheduler", ["train.schedule"]),
        ("batch_size", ["train.global_batch_size"]),
        ("train.per_device_train_batch_size", ["train.global_batch_size"]),
        ("epochs", ["train.max_steps"]),
        ("temperature", ["sampler.temp", "eval.temp"]),
        ("eval.temperature", ["eval.temp"]),
        ("max_tokens", ["sampler.max_new_tokens", "eval.max_new_tokens"]),
        ("sampler.max_tokens", ["sampler.max_new_tokens"]),
        ("lora_r", ["adapter.rank"]),
        ("gpu_memory_utilization", ["hardware.memory_utilization"]),
        ("model_name_or_path", ["model.name"]),
    ],
)
def test_words_of_other_tools_are_answered_by_ours_and_what_they_mean(
    typed: str, ours: list[str]
) -> None:
    message = no_such_setting(typed)
    assert f"did you mean {' or '.join(map(repr, ours))}?" in message
    for name in ours:
        assert reference()[name].sentence.split(".")[0] in message
    assert "output_dir" not in message  # no list of all settings


def test_the_words_of_other_tools_stand_for_settings_that_exist() -> None:
    assert {name for names in SETTINGS.values() for name in names} <= {*reference()}
    words = [word for listed in WORDS.values() for word in listed]
    assert len(words) == len({*words})
    assert not {*words} & {*reference()}
    assert meant_by("nothing_of_that_kind") == []


def test_a_setting_is_shown_with_sentence_range_and_default(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["truncation.top_p", "lora_alpha", "truncation=none"])
    shown = capsys.readouterr().out
    assert "truncation.top_p: float; (0, 1]; by default 1.0" in shown
    assert "adapter.alpha: int; above 0; by default 32" in shown
    assert "truncation.top_k: int or null; above 0; by default null" in shown


def test_a_word_that_is_nowhere_is_answered_by_the_sections(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["no_such_word_at_all"])
    assert "there are adapter, analyse" in capsys.readouterr().err
