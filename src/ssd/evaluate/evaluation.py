"""The stage: every model's answers, their verdicts, the settings they choose, and scores.json.

This process starts the generating ones and grades; it imports neither torch nor vllm.
"""

import sys

from ssd.arms import INTERVALS, TUNED
from ssd.artifacts.names import REPORT_PAGE, VERDICTS
from ssd.evaluate.generate import is_answered, is_whole, of_step, require_checkpoint
from ssd.evaluate.grade import Judges, grade_answers
from ssd.evaluate.metrics import track
from ssd.evaluate.scores import Estimator, benchmark_scores
from ssd.evaluate.selection import Job, choice_jobs, choose, list_arms, list_jobs, load_part
from ssd.evaluate.table import score_table
from ssd.problems.benchmarks.tasks import Benchmark
from ssd.problems.comparer import NOWHERE
from ssd.records.benchmark_scores import Edition, GradedAnswers
from ssd.records.scores import Scores, write_scores
from ssd.records.selection import Selection, write_choice
from ssd.records.verdicts import read_verdicts
from ssd.run import Run, evidence, protocol
from ssd.run.launch import export_model
from ssd.run.protocol import ALL
from ssd.runtime.children import run_child

DIFFICULTIES = ("easy", "medium", "hard")


def evaluate(run: Run) -> None:
    """Bring the run's scores.json up to date and print its table; finished artifacts are reused.

    Raises:
        ArtifactError: the run trains, and a checkpoint is not finished.
        HardwareError: generated code cannot be isolated on this machine.
        StageError: a generating process failed; it has printed its reason.
    """
    models = protocol.models(run)
    if TUNED not in models and TUNED in run.config.eval.arms:
        print(
            "there is no checkpoint and stages lacks train: only the base model is evaluated",
            flush=True,
        )
    for model in models:
        require_checkpoint(run, model)
    with Judges(run) as judges:
        for model in reversed(models):  # the base model last: it answers as the tuned one does too
            answer_and_grade(run, model, judges)
    choice = choose(run) if protocol.selects(run) else None
    if choice is not None:
        write_choice(run.folder, choice)
    scores = build_scores(run, None if choice is None else choice.selection)
    write_scores(run.folder, scores)
    # Not left to the times of files: a clock can go back.
    (run.folder / REPORT_PAGE).unlink(missing_ok=True)
    track(run, scores)
    print(f"\n{score_table(scores)}\n", flush=True)


def answer_and_grade(run: Run, model: str, judges: Judges) -> None:
    """Everything that a model answers, with its verdicts."""
    for job in list_jobs(run, model):
        if not job.verdicts(run).done:
            # Before anything is generated: a machine that cannot grade should say so first.
            judges.of(job.benchmark)
    steps = dict.fromkeys(how.checkpoint_step for how in protocol.candidates(run, model))
    # The first round ends in the choice, and the process that completed it has gone on to what is
    # reported, unless it answers for another step than the chosen one.
    for jobs in (choice_jobs, list_jobs):
        for step in steps:
            if not is_answered(run, of_step(step, jobs(run, model))):
                generate_answers(run, model, step)
        for job in jobs(run, model):
            if not job.verdicts(run).done:
                grade_answers(run, job, judges.of(job.benchmark))


def generate_answers(run: Run, model: str, step: int | None) -> None:
    """Answer everything for one step of a model, in a process of its own."""
    export_model(run, model, step)
    command = [sys.executable, "-m", "ssd.evaluate.generate", str(run.folder), model]
    run_child(
        command + ([] if step is None else ["--step", str(step)]),
        f"generating answers of the {model} model",
        is_whole=lambda: is_whole(run, model, step),
    )


def problem_groups(benchmark: Benchmark) -> dict[str, list[str]]:
    """Problem ids by difficulty, and a group without the problems whose official tests are known to
    be faulty; a group that is empty or the whole benchmark is left out."""
    tasks = benchmark.tasks
    others = {task.difficulty for task in tasks if task.difficulty}.difference(DIFFICULTIES)
    names = (*DIFFICULTIES, *sorted(others))
    groups = {name: [task for task in tasks if task.difficulty == name] for name in names}
    groups["without errata"] = [task for task in tasks if not task.errata]
    return {
        name: [task.problem.problem_id for task in group]
        for name, group in groups.items()
        if 0 < len(group) < len(tasks)
    }


def build_scores(run: Run, selection: Selection | None) -> Scores:
    """Every arm's scores, from finished verdicts."""
    settings = run.config.eval
    arms = list_arms(run, evidence.chosen_settings(run))
    backends: set[str] = set()
    benchmarks = []
    for name, part in protocol.reported_on(run):
        jobs = {arm.name: Job(arm.model, name, part, arm.how) for arm in arms}
        stored = {arm: (job.generations(run), job.verdicts(run)) for arm, job in jobs.items()}
        backends |= {verdicts.manifest()["sandbox"] for _, verdicts in stored.values()}
        benchmark = load_part(settings, name, part)
        scored = benchmark_scores(
            _edition(run, benchmark, part),
            {
                arm: GradedAnswers(
                    model=jobs[arm].model,
                    setting=jobs[arm].how,
                    generations=generations.fingerprint,
                    verdicts=verdicts.fingerprint,
                )
                for arm, (generations, verdicts) in stored.items()
            },
            {
                arm: read_verdicts(rows.intact(VERDICTS) / VERDICTS)
                for arm, (_, rows) in stored.items()
            },
            Estimator(
                k=settings.k,
                resample=settings.resample,
                num_resamples=settings.bootstrap,
                seed=run.config.seed,
            ),
            problem_groups(benchmark),
        )
        benchmarks.append(scored)
    return Scores(
        inputs=evidence.score_inputs(run),
        sandbox=", ".join(sorted(backends - {NOWHERE})),
        resample=settings.resample.value,
        intervals=INTERVALS,
        selection=selection,
        benchmarks=tuple(benchmarks),
    )


def _edition(run: Run, benchmark: Benchmark, part: str) -> Edition:
    settings = run.config.eval
    return Edition(
        name=benchmark.name,
        release=benchmark.release,
        window=benchmark.window,
        grading=benchmark.grading,
        extraction=benchmark.form.rule_name(settings.extraction),
        num_total=len(load_part(settings, benchmark.name, ALL).tasks),
        split=part,
        regression=benchmark.name in settings.regression,
    )
