"""What the frozen model draws before any training, and what is refused before that."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import templates

from ssd.artifacts.names import CORPUS, MANIFEST, SHARDS
from ssd.check.check import check_model
from ssd.drive.draw import draw
from ssd.models import Weights
from ssd.models.chat import load_tokenizer
from ssd.models.templates import DATE
from ssd.records.samples import read_samples
from ssd.run import Run, lineage
from ssd.runtime.findings import State

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


DRAW_LATER = """
import datetime
import sys
from pathlib import Path

from transformers.utils import chat_template_utils

from ssd.drive.draw import draw
from ssd.models.chat import load_tokenizer
from ssd.run import load_run


class Later(datetime.datetime):
    @classmethod
    def now(cls):
        return super().now() + datetime.timedelta(days=int(sys.argv[3]))


chat_template_utils.datetime = Later  # the clock that a template reads
run = load_run(Path(sys.argv[1]))
messages = [{"role": "user", "content": ""}]
text = load_tokenizer(run.weights.path).apply_chat_template(messages, tokenize=False)
Path(sys.argv[2]).write_text(text)
draw(run)
"""


@pytest.mark.slow
def test_a_corpus_resumed_on_another_day_holds_prompts_of_one_date(
    make_run: Callable[..., Run], tiny_weights: Weights, tmp_path: Path
) -> None:
    folder = templates.checkpoint_with(templates.DATED, tiny_weights, tmp_path / "model")
    run = make_run(
        *SMALL, "data.limit=8", "sampler.max_new_tokens=300", "sampler.shard_size=1",
        "sampler.filters=[]", f"model.path={folder}",
    )  # fmt: skip

    def start(days: int) -> subprocess.Popen[bytes]:
        arguments = [str(run.folder), str(tmp_path / f"day{days}"), str(days)]
        return subprocess.Popen([sys.executable, "-c", DRAW_LATER, *arguments])

    corpus = lineage.corpus(run).folder
    first = start(0)
    while len(list((corpus / SHARDS).glob("*.parquet"))) < 2:
        assert first.poll() is None
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert not (corpus / MANIFEST).exists()
    assert start(3).wait() == 0
    # The clock was another one, and transformers alone would have written its date.
    assert (tmp_path / "day0").read_text() != (tmp_path / "day3").read_text()
    prompts = [sample.prompt_token_ids for sample in read_samples(corpus / CORPUS)]
    tokenizer = load_tokenizer(str(folder))
    dates = {tokenizer.decode(prompt).split("<|im_end|>")[0] for prompt in prompts}
    assert len(prompts) == 8
    assert dates == {"<|im_start|>system\nToday: 01 Apr 2026"}
