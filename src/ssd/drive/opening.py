"""The first screen of a run that has something to do: what it will do, and where that is kept."""

import shlex
from collections.abc import Sequence

from ssd.arms import BASE, TUNED, UNIT, counted
from ssd.config.choices import AdapterType
from ssd.config.composition import RUN
from ssd.plan.enforcement import needs
from ssd.run import Run, protocol

NAMES = {BASE: "the base model", UNIT: "the control t1", TUNED: "the tuned model"}


def opening(run: Run, command: Sequence[str]) -> str:
    """A line for each of sampling, training and scoring, what they take, and how to ask for more.

    Args:
        command: what was typed, whose plan the last line names.
    """
    config, stages = run.config, run.config.stages
    data, sampler, train = config.data, config.sampler, config.train
    lines = {}
    if "sample" in stages and train.corpus is None:
        prompts = f"{data.limit} prompts" if data.limit else "every prompt"
        drawn = f"power {sampler.power.alpha:g}" if sampler.power.is_on else f"T {sampler.temp:g}"
        lines["sample"] = (
            f"{prompts} of {data.name}, {counted(sampler.num_samples, 'answer')} each at {drawn}"
        )
    if "train" in stages:
        corpus = "its own answers, unchecked" if train.corpus is None else str(train.corpus)
        adapter = config.adapter.type
        what = "" if adapter is AdapterType.none else f"{adapter.value} of "
        lines["train"] = (
            f"{what}{config.model.path or config.model.name} on {corpus}: "
            f"{train.max_steps} steps of {train.global_batch_size}"
        )
    if "evaluate" in stages:
        models = " and ".join(NAMES[name] for name in protocol.models(run))
        names = ", ".join(name for name, _ in protocol.reported_on(run))
        size = f" ({config.eval.limit} problems of each)" if config.eval.limit else ""
        lines["score"] = (
            f"{models} on {names}{size}, {counted(config.eval.num_samples, 'answer')} a problem"
        )
    lines["keep"] = f"in {run.store}; stop it at any time, the same command goes on from there"
    lines["take"] = needs(config, run.folder)
    plan = [word for word in command if not word.startswith("stages=")]
    asked = shlex.join(plan[len(RUN) :])
    lines["ask"] = f"{' '.join([*RUN, asked]).strip()} 'stages=[plan]' counts it part by part"
    return "\n".join(f"  {name:8}{text}" for name, text in lines.items())
