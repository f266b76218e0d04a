"""Every option composes, the paper's settings are the paper's, bad values name their setting."""

import dataclasses
from pathlib import Path

import pytest
import yaml
from runs import ROOT, compose_config

from ssd.config.choices import AdapterType, ModelKind
from ssd.config.reference import reference
from ssd.config.settings import RunConfig
from ssd.errors import ConfigError

CONF = ROOT / "conf"
GROUPS = sorted(path.name for path in CONF.iterdir() if path.is_dir())
OPTIONS = sorted((path.parent.name, path.stem) for path in CONF.glob("*/*.yaml"))
NEEDS = {("data", "file"): ["data.path=prompts.jsonl"], ("data", "hub"): ["data.hub_name=org/name"]}


def test_the_groups_are_the_documented_ones() -> None:
    expected = (
        "model recipe data prompt_format sampler truncation "
        "optimizer schedule objective adapter hardware eval logger"
    )
    # hydra/launcher/slurm is composed in test_sweeps.py: it needs a plugin.
    assert set(GROUPS) == {*expected.split(), "experiment", "sweep", "hydra"}


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes(group: str, option: str) -> None:
    config = compose_config(f"{group}={option}", *NEEDS.get((group, option), []))
    assert isinstance(config, RunConfig)


@pytest.mark.parametrize("option", [option for group, option in OPTIONS if group == "truncation"])
@pytest.mark.parametrize("mount", ["eval.truncation", "eval.base_truncation"])
def test_truncation_mounts_at_evaluation_too(option: str, mount: str) -> None:
    config = compose_config(f"truncation@{mount}={option}")
    chosen = getattr(config.eval, mount.removeprefix("eval."))
    assert dataclasses.asdict(chosen) == yaml.safe_load(
        (CONF / "truncation" / f"{option}.yaml").read_text()
    )


# model: T_train, k, p | T_eval, k, p | base T, k, p (arXiv 2604.01193, Tables 3 and 4)
PAPER = {
    "llama31_8b": ((0.8, 20, 0.8), (0.7, 20, 0.8), (0.9, None, 0.8)),
    "qwen3_4b": ((1.6, 20, 0.8), (1.1, 20, 0.8), (0.7, 20, 0.8)),
    "qwen3_4b_thinking": ((1.1, 20, 0.95), (0.7, 20, 0.95), (0.6, 20, 0.95)),
    "qwen3_30b": ((1.6, 20, 0.8), (0.9, 20, 0.8), (0.7, 20, 0.8)),
    "qwen3_30b_thinking": ((1.2, 20, 0.95), (0.7, 20, 0.95), (0.6, 20, 0.95)),
    "gpt_oss_20b": ((1.2, None, 1.0), (1.0, 20, 0.95), (1.0, None, 1.0)),
}


@pytest.mark.parametrize("model", PAPER)
def test_a_paper_model_brings_the_papers_settings(model: str) -> None:
    config = compose_config(f"model={model}")
    sampling, tuned, base = PAPER[model]
    evaluation = config.eval
    assert (config.sampler.temp, config.truncation.top_k, config.truncation.top_p) == sampling
    assert (evaluation.temp, evaluation.truncation.top_k, evaluation.truncation.top_p) == tuned
    assert (
        evaluation.base_temp,
        evaluation.base_truncation.top_k,
        evaluation.base_truncation.top_p,
    ) == base
    thinking = config.model.kind is ModelKind.thinking
    assert (config.train.max_steps, config.train.warmup_steps) == (
        (300, 50) if thinking else (2500, 250)
    )
    assert config.train.checkpoint_every == (50 if thinking else 250)
    assert (config.optimizer.lr, config.train.min_lr, config.train.global_batch_size) == (
        5e-6,
        1e-6,
        32,
    )
    assert (tuple(config.optimizer.betas), config.optimizer.weight_decay) == ((0.9, 0.95), 0.1)
    assert (config.train.seq_len, config.sampler.num_samples, config.data.name) == (
        65536,
        1,
        "rstar_coder",
    )
    assert config.adapter.type is AdapterType.none
    # So that a plan knows the hours before there is a corpus.
    assert config.plan.num_prompts == 10168
    assert config.plan.tokens_per_sample is not None


def test_the_command_line_wins_over_the_recipe() -> None:
    config = compose_config("model=qwen3_30b", "sampler.temp=1.4", "truncation=none", "data=mbpp")
    assert config.sampler.temp == 1.4
    assert config.truncation.top_k is None
    assert config.data.name == "mbpp"
    assert config.eval.truncation.top_k == 20


def test_an_experiment_wins_over_the_recipe_and_loses_to_the_command_line() -> None:
    config = compose_config("experiment=unit_temp")
    assert (config.sampler.temp, config.truncation.top_k, config.truncation.top_p) == (
        1.0,
        None,
        1.0,
    )
    assert compose_config("experiment=unit_temp", "sampler.temp=0.9").sampler.temp == 0.9


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["sampler.temp=-1"], r"sampler.temp must lie in \[0, 10\], got -1"),
        (["truncation.top_k=0"], "truncation.top_k must be positive or null"),
        (
            ["eval.k=[1,10]", "eval.num_samples=5"],
            r"eval.k=\[1, 10\] needs eval.num_samples >= 10, got 5",
        ),
        (["eval.regression=[mbpp]"], "mbpp stands twice among eval.benchmarks, eval.regression"),
        (["eval.temps=[0.4,11]"], "eval.temps must lie in"),
        (["eval.temps=[0.4,0.4]"], "eval.temps names a value twice"),
        (["eval.checkpoint_steps=[99]"], "eval.checkpoint_steps=99 must lie in"),
        (["eval.checkpoint_steps=[6]", "eval.checkpoint_step=6"], "are both set: leave one out"),
        (["eval.controls=[base_swept]"], "there is nothing to sweep: add temperatures"),
        (["eval.resample=both"], "needs the noise of a problem's answers and there is one"),
        (
            ["eval.num_validation_samples=2", "eval.selection=test"],
            "eval.selection=test holds none out",
        ),
        (["eval.controls=[base_sweep]"], "did you mean 'base_swept'"),
        (["eval.controls=[t1]", "sampler.temp=1", "truncation=none"], "is this run itself"),
        (
            ["sampler.power.alpha=4", "truncation=none", "sampler.temp=1.2"],
            r"sampler.power.alpha=4 .* sampler.temp=1.2: set sampler.temp=0.25",
        ),
        (
            ["sampler.power.alpha=4", "truncation=top_k20", "sampler.temp=0.25"],
            "truncation.top_k=20.* add truncation=none",
        ),
        (["sampler.power.alpha=0.5", "sampler.temp=2"], r"sampler.power.alpha must lie in \(1"),
        (
            ["experiment=power", "sampler.num_samples=9"],
            "sampler.num_samples=9 exceeds the sampler.power.candidates=8",
        ),
        (["experiment=power", "sampler.logprobs=0"], "leave out sampler.logprobs"),
        (["experiment=power", "train.corpus=x"], "train.corpus=x is one already"),
        (["eval.benchmarks=[]"], "eval.benchmarks is empty"),
        (["stages=[smaple]"], "did you mean 'sample'"),
        (["train.warmup_steps=99"], "train.warmup_steps=99 must lie in"),
        (["train.decay_steps=3"], "train.decay_steps=3 .*: leave it out, or add schedule=wsd"),
        (["schedule=wsd", "train.decay_steps=11"], "train.warmup_steps=2 .* train.decay_steps=11"),
        (["train.keep_optimizer=true"], "train.schedule=cosine .* add schedule=constant or"),
        (["eval.arms=[tuned]"], r"use \[base,tuned\], or \[base\]"),
        (["eval.arms=[]"], r"use \[base,tuned\], or \[base\]"),
        (["eval.arms=[bsae]"], "did you mean 'base'"),
        (["eval.arms=[base]", "eval.controls=[t1]"], r"eval.controls=\[t1\]"),
        (["eval.arms=[base]", "rounds=2"], "eval.arms=.base. trains nothing, and rounds=2"),
        (["train.global_batch_size=1", "hardware.devices=2"], "leaves some of the 2 training"),
        (["optimizer=adamw8bit", "hardware.devices=2"], "break on sharded weights"),
        (["adapter=qlora", "hardware.devices=2"], "adapter=qlora keeps 4-bit weights"),
        (
            ["hardware.devices=1", "hardware.strategy=fsdp"],
            "hardware.strategy=fsdp shards over processes",
        ),
        (["hardware.devices=1", "hardware.cpu_offload=true"], "nothing is sharded"),
        (["hardware/pool=ray", "hardware.pool.address=head"], "must be HOST:PORT"),
        (["hardware/pool=ray", "hardware.pool.address=ray://head:1"], "is a client's address"),
        (["eval.checkpoint_step=0"], r"eval.checkpoint_step=0 must lie in \[1, train.max_steps"),
        (["train.router_aux_coef=-1"], "train.router_aux_coef must not be negative"),
        (["sampler.max_model_len=100"], "must exceed sampler.max_new_tokens"),
        (["data=file"], "name a JSONL or Parquet file with data.path=FILE"),
        (["data=hub"], "data.hub_name=ORG/NAME"),
        (["model=tiny", "model.source=wheel"], "no wheel is known for model.name=tiny"),
        (["data.path=prompts.jsonl"], "data.path is set, but data.source=packaged.*add data=file"),
        (["data.hub_name=org/name"], "data.hub_name is set, but .*add data=hub"),
        (["model.template_args=low"], r"model.template_args=low is no dictionary"),
        (["eval.template_args={date: May}"], r"eval.template_args.date=May is no date"),
        (["prompt_format.question=text"], r"must contain \{question\}"),
    ],
)
def test_a_bad_value_names_its_setting(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose_config(*overrides)


def test_every_setting_of_the_schema_is_read_somewhere() -> None:
    schema = ROOT / "src" / "ssd" / "config" / "settings.py"
    source = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py") if path != schema)
    # Optimizer fields go to the optimizer as they are; `holds` and `reasoning_effort` are read in
    # the schema itself; the entry of a benchmark names its file.
    optimizer, schema_only = {"_target_", "eps", "betas"}, {"holds", "reasoning_effort"}
    whole = {*optimizer, *schema_only, "revision", "humaneval_plus", "mbpp_plus"}
    whole |= {"gsm8k", "math500", "aime"}
    unread = [
        name
        for name in reference()
        if name.split(".")[-1] not in whole and f".{name.split('.')[-1]}" not in source
    ]
    assert unread == []


def test_config_needs_neither_torch_nor_vllm(tmp_path: Path) -> None:
    import subprocess
    import sys

    program = (
        "import sys, ssd.config.settings, ssd.drive.jobs; "
        "sys.exit(any(m in sys.modules for m in ('torch', 'vllm')))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
