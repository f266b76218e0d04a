"""The artifacts behind the numbers, the libraries, and the command that makes them again."""

import shlex

from ssd.report.render.document import Block, Code, Paragraph, Section, Table
from ssd.report.run.facts import Facts, StageResult


def provenance(facts: Facts) -> list[Section]:
    """Command, artifacts and library versions."""
    blocks: list[Block] = []
    if facts.command is not None:
        caption = "The exact command that reproduces this run"
        blocks.append(Code(caption=caption, text=shlex.join(facts.command)))
    if facts.results:
        blocks.append(_artifact_table(facts.results))
    versions = [[library, ", ".join(own)] for library, own in libraries(facts.results).items()]
    if versions:
        caption = "Library versions, several where artifacts were made with different ones"
        blocks.append(
            Table(caption=caption, columns=["Library", "Version"], sides="ll", rows=versions)
        )
    return [Section("Provenance", blocks or [Paragraph("Nothing is recorded yet.")])]


def _artifact_table(results: list[StageResult]) -> Table:
    return Table(
        caption="Artifacts, each by the fingerprint of all it depends on",
        columns=["Artifact", "Fingerprint", "Finished"],
        sides="lll",
        rows=[
            [
                result.label,
                result.fingerprint,
                result.manifest["finished"] if result.manifest is not None else "unfinished",
            ]
            for result in results
        ],
    )


def libraries(results: list[StageResult]) -> dict[str, list[str]]:
    """Every version of each library that the artifacts were made with."""
    versions: dict[str, set[str]] = {}
    for result in results:
        for library, version in (result.manifest or {}).get("libraries", {}).items():
            versions.setdefault(library, set()).add(version)
    return {library: sorted(own) for library, own in versions.items()}
