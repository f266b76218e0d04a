"""What is refused before the first token: everything that would fail later."""

from pathlib import Path

from ssd.arms import BASE, UNIT
from ssd.artifacts.store import Artifact, existing
from ssd.config.choices import DataSource, EngineName, ObjectiveType
from ssd.config.ranges import require
from ssd.config.settings import HardwareConfig, RunConfig
from ssd.drive.draw import longest_model_len
from ssd.drive.model_check import check_model
from ssd.drive.stages import (
    all_planned,
    is_current,
    pending,
    planned,
    rounds_ahead,
    scores_are_current,
)
from ssd.errors import ConfigError
from ssd.evaluate.generate import is_whole
from ssd.evaluate.grade import Judges
from ssd.evaluate.grading import require_modules
from ssd.evaluate.selection import take_part
from ssd.evaluate.soundness import require_sound
from ssd.models.weights import model_length, require_trainable
from ssd.problems.benchmarks.registry import (
    benchmark_identity,
    find_entry,
    load_benchmark,
    named_benchmarks,
)
from ssd.problems.prompts import load_prompts
from ssd.run import Run, continuation, evidence, lineage, protocol
from ssd.run.launch import stage_command
from ssd.run.lineage import require_tokenizer, require_unchanged
from ssd.runtime.installation import check_training, local_engine, require_engine, require_ray

NEEDS_DECODING = ("evaluate", "analyse", "report")
"""Stages whose numbers depend on how the corpus was drawn."""


def check_data(config: RunConfig) -> None:
    """Read what will be trained on, and find the benchmarks, before weights are fetched.

    Raises:
        ArtifactError: `train.corpus` names no finished corpus.
        ConfigError, DataError: prompts are missing, malformed or none, or a benchmark is missing.
    """
    settings = config.eval
    if config.train.corpus is not None:
        require_decoding(existing(Path(config.train.corpus), ("corpus",), "train.corpus"), config)
    samples = config.train.corpus is None or UNIT in settings.controls
    if samples and "sample" in config.stages and config.data.source is not DataSource.hub:
        load_prompts(config.data)
    if "evaluate" in config.stages:
        for name in named_benchmarks(settings):
            benchmark_identity(name, settings.files)


def require_decoding(corpus: Artifact, config: RunConfig) -> None:
    """Refuse an imported corpus of unknown temperature where a number depends on it.

    Raises:
        ConfigError: names the ways out.
    """
    live = "train" in config.stages and config.analyse.live_points > 0
    if corpus.inputs.get("temp", 0) is None and (live or {*NEEDS_DECODING} & {*config.stages}):
        raise ConfigError(
            f"train.corpus={corpus.folder} does not say at which temperature it was drawn, and "
            f"{', '.join(NEEDS_DECODING)} and analyse.live_points use that: import it again with "
            "--temp, --top-k and --top-p, or set 'stages=[train]' and analyse.live_points=0"
        )


def require_target(run: Run) -> None:
    """Refuse `objective=soft` for samples that no distribution was drawn from, as far as is known.

    Raises:
        ConfigError: names the ways out.
    """
    objective, corpus = run.config.objective, lineage.corpus(run)
    if objective.type is not ObjectiveType.soft:
        return
    settings = {"temp": objective.temp, "truncation": objective.truncation}
    for name, value in settings.items():
        require(
            value is not None or "power" not in corpus.inputs,
            f"objective=soft takes its {name} from the corpus, and one of sampler.power.alpha is "
            "no tempering of single tokens: set objective.temp and objective.truncation to name a "
            "target, or leave objective=cross_entropy, which trains on the sampled answers",
        )
        require(
            value is not None or corpus.inputs[name] is not None,
            f"objective=soft takes its {name} from the corpus, and train.corpus={corpus.folder} "
            f"does not know it: set objective.{name}, or import the corpus again with --temp, "
            "--top-k and --top-p",
        )
    target = lineage.target(run)
    require(
        target is not None and not target.is_greedy,
        "objective=soft: the corpus is greedy (temperature 0), which is no distribution: set "
        "objective.temp, or sampler.temp for another corpus",
    )


def check(run: Run) -> None:
    """Refuse, before any stage starts, what would fail later.

    Raises:
        SSDError: one line that names the setting and the remedy.
    """
    config = run.config
    if config.train.corpus is not None:
        require_tokenizer(run, lineage.corpus(run), "train.corpus")
    if config.analyse.probe is not None:
        require_tokenizer(run, evidence.probe(run), "analyse.probe")
        require_unchanged(evidence.probe(run), "analyse.probe")
    folder = Path(run.weights.path)
    longest = model_length(folder)
    lengths = {
        "sampler.max_model_len": config.sampler.max_model_len,
        "eval.max_model_len": config.eval.max_model_len,
        "train.seq_len": config.train.seq_len,
    }
    for setting, length in lengths.items():
        if longest is not None and length is not None and length > longest:
            raise ConfigError(
                f"{setting}={length} exceeds the {longest} tokens that {config.model.name} takes: "
                "lower it"
            )
    evaluated = all(map(scores_are_current, rounds_ahead(run)))
    if "evaluate" in config.stages and not evaluated:
        check_evaluation(run)
    untrained = [
        training
        for training, name in all_planned(run)
        if name == "train" and not lineage.checkpoint(training).done
    ]
    for training in untrained:
        if lineage.corpus(training).done:
            require_unchanged(
                lineage.corpus(training), training.config.train.corpus and "train.corpus"
            )
        if line := continuation.note(training):
            print(line, flush=True)
    if untrained:
        require_target(run)
        check_training(config)
        require_trainable(folder, config)
        stage_command(run, "train")
    if stages := pending(run):
        check_model(run)
        if config.hardware.pool.is_elsewhere and {"sample", "evaluate"} & {*config.stages}:
            check_cluster(config.hardware)
        elif {"sample", "evaluate"} & {*stages}:
            require_engine(config)
        if config.sampler.engine is EngineName.openai and draws_base(run):
            check_server(run)


def draws_base(run: Run) -> bool:
    """Whether the base model has anything left to draw."""
    stages = [name for _, name in planned(run)]
    sampled = "sample" not in stages or is_current(run, "sample")
    return not sampled or ("evaluate" in stages and not is_whole(run, BASE))


def check_server(run: Run) -> None:
    """Ask the server of `sampler=openai` for what a run needs of it, and say what it draws.

    Raises:
        ConfigError, HardwareError: it does not answer, or not as it has to.
    """
    from ssd.generation import openai_server  # imports an HTTP client, which most runs do without

    sampler = run.config.sampler
    with openai_server.open_connection(sampler, is_patient=False) as connection:
        server = openai_server.find_server(connection, sampler.served_name)
        length = longest_model_len(run) or model_length(Path(run.weights.path))
        openai_server.require_length(server, length)
        openai_server.require_abilities(connection, server, sampler.asked_logprobs)
    others = [model for model in protocol.models(run) if model != BASE]
    here = f"; {local_engine(sampler.engine)} here draws for {' and '.join(others)}"
    print(
        f"{sampler.url} ({server.root or server.name}) draws for the base model"
        + (here if others and "evaluate" in run.config.stages else ""),
        flush=True,
    )


def check_cluster(hardware: HardwareConfig) -> None:
    """Ask the Ray cluster whether it has room for the engines.

    Raises:
        HardwareError: Ray is not installed, there is no cluster, or it is too small.
    """
    require_ray()
    from ssd.generation import ray_pool

    with ray_pool.joined(hardware):
        number = ray_pool.num_replicas(hardware)
    print(f"{hardware.pool.address}: a Ray cluster with room for {number} engine(s)", flush=True)


def check_evaluation(run: Run) -> None:
    """Try the sandbox, read every benchmark, and run the tests of one's own.

    Raises:
        HardwareError: generated code cannot be isolated here.
        ConfigError, DataError: a benchmark is missing, malformed, or has no problem left; tests of
            one's own cannot fail, or fail their reference solution.
    """
    settings = run.config.eval
    parts = [
        *protocol.reported_on(run),
        *(protocol.chosen_on(run) if protocol.selects(run) else []),
    ]
    with Judges(run) as judges:
        for name in dict.fromkeys(name for name, _ in parts):
            judge = judges.of(name)
            # Not kept: this process outlives every stage.
            benchmark = load_benchmark(name, settings.files, settings.grading, settings.limit)
            require_modules(benchmark, judge)
            for part in {part for other, part in parts if other == name}:
                take_part(settings, benchmark, part)
            if not find_entry(name).trusted_tests:
                require_sound(benchmark.tasks, judge, timeout=settings.timeout)
