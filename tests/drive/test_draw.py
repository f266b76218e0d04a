"""What the frozen model draws before any training, and what is refused before that."""

from collections.abc import Callable
from pathlib import Path

import templates

from ssd.check.check import check_model
from ssd.check.subject import State
from ssd.drive.draw import draw
from ssd.models import Weights
from ssd.models.chat import load_tokenizer
from ssd.models.templates import DATE
from ssd.records.samples import read_samples
from ssd.run import Run, lineage

SMALL = ("sampler=transformers", "stages=[sample]", "data.limit=1", "sampler.max_new_tokens=2")


def test_a_benchmarks_prompt_that_cannot_be_rendered_is_refused_before_the_corpus_is_drawn(
    make_run: Callable[..., Run], tiny_weights: Weights, tmp_path: Path
) -> None:
    folder = templates.checkpoint_with(templates.NO_SYSTEM_ROLE, tiny_weights, tmp_path / "model")
    run = make_run(f"model.path={folder}", "prompt_format=lcb")
    (template,) = [item for item in check_model(folder, run.config) if item.item == "template"]
    assert template.state is State.refused
    assert "system_role=user" in template.text
    assert "eval.prompt_format.system=null" in template.text


def test_a_corpus_of_a_template_that_asks_for_the_date_holds_the_same_date_on_any_day(
    make_run: Callable[..., Run], tiny_weights: Weights, tmp_path: Path
) -> None:
    folder = templates.checkpoint_with(templates.DATED, tiny_weights, tmp_path / "model")
    run = make_run(*SMALL, "sampler.filters=[]", f"model.path={folder}")
    (template,) = [item for item in check_model(folder, run.config) if item.item == "template"]
    assert template.state is State.note
    assert DATE in template.text
    draw(run)
    (drawn,) = read_samples(lineage.corpus(run).folder / "corpus.parquet")
    prompt = load_tokenizer(str(folder)).decode(drawn.prompt_token_ids)
    assert "Today: 01 Apr 2026" in prompt
