"""Where the trained model lies, and the lines that load and serve it."""

import shlex
from dataclasses import replace
from pathlib import Path

from ssd.artifacts.names import CORPUS
from ssd.report.render import formats
from ssd.report.render.document import Block, Code, Paragraph, Section
from ssd.report.run.facts import Facts
from ssd.report.run.serving import Usable, reported, usable
from ssd.report.run.summary import finding, headline
from ssd.run import lineage
from ssd.run.loggers import where_logged


def use(facts: Facts) -> list[Section]:
    """The section on using the trained model, or none where there is none."""
    model = trained_model(facts)
    if model is None:
        return []
    kind = "adapter" if model.rank is not None else "model"
    blocks: list[Block] = [
        Paragraph(
            f"The trained {kind} lies in {model.folder}. The line that serves it makes "
            f"{formats.decoding(model.decoding)} the default of every request."
        ),
        Code(caption="Load it in Python", text=model.load_line()),
        Code(caption="Serve it with vLLM", text=model.serve_line()),
    ]
    return [Section("Using the model", blocks)]


def last_screen(facts: Facts) -> str:
    """What came out of a run, where it lies, and how it is used, a line each."""
    lines = []
    if facts.main:
        findings = [finding(benchmark) for benchmark in facts.main]
        lines.append(headline(findings))
        if any(item.verdict == "undecided" for item in findings):
            asked = shlex.join(["ssd", "evaluate", "power", str(facts.run.folder)])
            lines.append(
                f"  undecided: the difference may be chance; {asked} says how many problems would "
                "tell"
            )
    model = trained_model(facts)
    if model is not None:
        lines.append(f"{'adapter' if model.rank is not None else 'model'}: {model.folder}")
        lines.append(f"  load:  {model.load_line()}")
        lines.append(f"  serve: {model.serve_line()}")
    elif facts.corpus is not None and facts.corpus.manifest is not None:
        corpus = lineage.corpus(facts.run)
        lines.append(f"corpus: {_in_run(facts, corpus.folder) / CORPUS}")
    return "\n".join([*lines, *where_logged(facts.run)])


def trained_model(facts: Facts) -> Usable | None:
    """The model that a run reports, by the link in its folder where there is one."""
    export = reported(facts)
    model = None if export is None else usable(export)
    if model is None:
        return None
    return replace(model, folder=_in_run(facts, model.folder))


def _in_run(facts: Facts, path: Path) -> Path:
    """A path of the store through the run folder's link to that artifact, which people can read."""
    for link in (facts.run.folder / "checkpoint", facts.run.folder / "corpus"):
        if link.is_symlink() and path.absolute().is_relative_to(link.resolve()):
            return link / path.absolute().relative_to(link.resolve())
    return path
