"""verdicts.parquet: what is written is what is read."""

import dataclasses
from pathlib import Path

from answers import make_verdict

from ssd.artifacts.files import read_rows, write_rows
from ssd.artifacts.names import VERDICTS
from ssd.records.verdicts import read_verdicts, write_verdicts


def test_what_is_written_is_read(tmp_path: Path) -> None:
    verdicts = [
        make_verdict("a", 0, True, program="x"),
        dataclasses.replace(make_verdict("a", 1, False), lost_to="no fence"),
    ]
    write_verdicts(tmp_path / VERDICTS, verdicts)
    assert read_verdicts(tmp_path / VERDICTS) == verdicts


def test_verdicts_of_earlier_versions_say_nothing_of_lost_forms(tmp_path: Path) -> None:
    write_verdicts(tmp_path / VERDICTS, [make_verdict("a", 0, True)])
    (row,) = read_rows(tmp_path / VERDICTS)
    del row["lost_to"]
    write_rows(tmp_path / VERDICTS, [row])
    assert read_verdicts(tmp_path / VERDICTS)[0].lost_to is None
