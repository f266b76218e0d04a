"""What an offline W&B run has written."""

import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def logged(folder: Path) -> Iterator[Any]:
    """What an offline W&B run keeps for `wandb sync`: protocol records in LevelDB's log format,
    32 KiB blocks of fragments with a checksum, a length and a kind each."""
    from wandb.proto.wandb_internal_pb2 import Record

    (path,) = folder.glob("*.wandb")
    raw, place, whole = path.read_bytes(), 7, b""  # the file's own header
    while place + 7 <= len(raw):
        left = 32768 - place % 32768
        if left < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", raw[place : place + 7])
        whole += raw[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a whole record, or the last of its fragments
            record = Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


def closed(folder: Path) -> list[Any]:
    """The records of a run that has ended, whose file W&B's service closes a moment later."""
    for _ in range(100):
        records = list(logged(folder))
        if records and records[-1].HasField("exit"):
            return records
        time.sleep(0.1)
    raise AssertionError(f"{folder} was not closed within ten seconds")


def offline_history(records: list[Any], name: str) -> list[tuple[int, float]]:
    """Steps of an offline run, and a metric at each."""
    lines = [
        {item.key or item.nested_key[0]: item.value_json for item in record.history.item}
        for record in records
        if record.HasField("history")
    ]
    return [(int(line["_step"]), float(line[name])) for line in lines if name in line]
