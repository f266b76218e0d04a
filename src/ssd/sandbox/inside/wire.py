"""Frames between processes, and the plain values that a candidate's process may hand over.

A candidate's process is hostile: whatever it sends is read by `Reader`, which can build nothing but
the plain data of `MAKERS`. Both sides' picklers write a plain value's subclass as the plain value
itself, so an `__eq__` that somebody has patched does not arrive.
"""

import datetime
import io
import pickle
import socket
import struct
import sys
import types
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

from . import opcodes

HEADER = struct.Struct("!Q")
MOST_BYTES = 2**28
"""The longest frame that is accepted from a candidate."""
ARRAY_KINDS = frozenset("biufcSUmM")
"""Kinds of numpy data that hold no Python objects."""


def send_frame(connection: socket.socket, payload: bytes) -> None:
    """Send a length and as many bytes."""
    if len(payload) < 2**16:
        connection.sendall(HEADER.pack(len(payload)) + payload)
    else:
        connection.sendall(HEADER.pack(len(payload)))
        connection.sendall(payload)


def receive_frame(connection: socket.socket, most: int = 2**40) -> bytearray:
    """The next frame.

    Raises:
        EOFError: the other side is gone.
        ValueError: the frame is longer than `most` bytes.
    """
    (size,) = HEADER.unpack(receive_exactly(connection, HEADER.size))
    if size > most:
        raise ValueError(f"a message of {size} bytes")
    return receive_exactly(connection, size)


def receive_exactly(connection: socket.socket, size: int) -> bytearray:
    """`size` bytes; EOFError where the other side is gone."""
    buffer = bytearray(size)
    view, done = memoryview(buffer), 0
    while done < size:
        count = connection.recv_into(view[done:])
        if not count:
            raise EOFError("the other side is gone")
        done += count
    return buffer


def exactly(value: Any) -> Any:
    return value


def counter(items: dict[Any, int]) -> Any:
    return Counter(dict(items))


def ordered(items: list[Any]) -> Any:
    return OrderedDict(items)


def default(items: dict[Any, Any], kind: str) -> Any:
    kinds = {"int": int, "float": float, "str": str, "list": list, "dict": dict, "set": set}
    return defaultdict(kinds.get(kind), items)


def queue(items: list[Any], length: int | None) -> Any:
    return deque(items, length)


def interval(start: int, stop: int, step: int) -> Any:
    return range(start, stop, step)


def piece(start: Any, stop: Any, step: Any) -> Any:
    return slice(start, stop, step)


def octets(value: bytes) -> Any:
    return bytearray(value)


def imaginary(real: float, imag: float) -> Any:
    return complex(real, imag)


def decimal(text: str) -> Any:
    return Decimal(text)


def fraction(numerator: int, denominator: int) -> Any:
    return Fraction(numerator, denominator)


def duration(days: int, seconds: int, microseconds: int) -> Any:
    return datetime.timedelta(days, seconds, microseconds)


def zone(seconds: float) -> Any:
    return datetime.timezone(datetime.timedelta(seconds=seconds))


def day(*fields: int) -> Any:
    return datetime.date(*fields)


def moment(fields: tuple[int, ...], tzinfo: Any, fold: int) -> Any:
    year, month, day, *time = fields
    return datetime.datetime(year, month, day, *time, tzinfo=tzinfo, fold=fold)  # type: ignore


def clock(fields: tuple[int, ...], tzinfo: Any, fold: int) -> Any:
    hour, minute, second, microsecond = fields
    return datetime.time(hour, minute, second, microsecond, tzinfo, fold=fold)


def array(kind: str, shape: tuple[int, ...], content: bytes) -> Any:
    import numpy

    dtype = numpy.dtype(kind)
    if dtype.kind not in ARRAY_KINDS:
        raise ValueError(f"an array of {kind}")
    return numpy.frombuffer(content, dtype).reshape(shape).copy()


def scalar(kind: str, content: bytes) -> Any:
    return array(kind, (), content)[()]


def objects(shape: tuple[int, ...], items: list[Any]) -> Any:
    import numpy

    array = numpy.empty(len(items), object)
    array[:] = items
    return array.reshape(shape)


def handle(number: int) -> Any:
    """Names, in a pickle, an object that the candidate's process keeps; each side reads it with a
    callable of its own."""
    raise LookupError(f"object {number} of the candidate")


def callback(number: int) -> Any:
    """Names, in a pickle, a callable that the judge keeps."""
    raise LookupError(f"callable {number} of the judge")


MAKERS: dict[str, Callable[..., Any]] = {
    maker.__name__: maker
    for maker in (
        exactly, counter, ordered, default, queue, interval, piece, octets, imaginary, decimal,
        fraction, duration, zone, day, moment, clock, array, scalar, objects,
    )
}  # fmt: skip
"""Everything that a hostile message can call, each on plain values."""

NAMED = frozenset((*MAKERS.values(), handle, callback))


def zoned(value: Any) -> tuple[Any, int]:
    offset = value.utcoffset() if isinstance(value, datetime.datetime) else None
    return (None if offset is None else zone(offset.total_seconds())), value.fold


REDUCTIONS: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (int, lambda x: (exactly, (int.__index__(x),))),
    (float, lambda x: (exactly, (float.__float__(x),))),
    (complex, lambda x: (imaginary, (complex(x).real, complex(x).imag))),
    (str, lambda x: (exactly, (str.__str__(x),))),
    (bytes, lambda x: (exactly, (bytes.__getitem__(x, slice(None)),))),
    (bytearray, lambda x: (octets, (bytes(x),))),
    (list, lambda x: (exactly, (list.__getitem__(x, slice(None)),))),
    (tuple, lambda x: (exactly, (tuple(tuple.__iter__(x)),))),
    (set, lambda x: (exactly, (set(set.__iter__(x)),))),
    (frozenset, lambda x: (exactly, (frozenset(frozenset.__iter__(x)),))),
    (Counter, lambda x: (counter, (dict.copy(x),))),
    (OrderedDict, lambda x: (ordered, (list(OrderedDict.items(x)),))),
    (
        defaultdict,
        lambda x: (default, (dict.copy(x), getattr(x.default_factory, "__name__", ""))),
    ),
    (dict, lambda x: (exactly, (dict.copy(x),))),
    (deque, lambda x: (queue, (list(deque.__iter__(x)), x.maxlen))),
    (range, lambda x: (interval, (x.start, x.stop, x.step))),
    (slice, lambda x: (piece, (x.start, x.stop, x.step))),
    (Decimal, lambda x: (decimal, (Decimal.__str__(x),))),
    (Fraction, lambda x: (fraction, (x.numerator, x.denominator))),
    (datetime.timedelta, lambda x: (duration, (x.days, x.seconds, x.microseconds))),
    (datetime.timezone, lambda x: (zone, (x.utcoffset(None).total_seconds(),))),
    (
        datetime.datetime,
        lambda x: (
            moment,
            ((x.year, x.month, x.day, x.hour, x.minute, x.second, x.microsecond), *zoned(x)),
        ),
    ),
    (datetime.date, lambda x: (day, (x.year, x.month, x.day))),
    (
        datetime.time,
        lambda x: (clock, ((x.hour, x.minute, x.second, x.microsecond), *zoned(x))),
    ),
)
"""Plain types, subclasses before their bases, and how a value of each is written."""


def reduce_plain(value: Any) -> Any:
    """A pickle reduction to plain data, or None for what is none: numpy's objects included,
    where numpy is loaded."""
    for kind, reduction in REDUCTIONS:
        if isinstance(value, kind):
            return reduction(value)
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, (numpy.ndarray, numpy.generic)):
        return None
    if value.dtype.kind in ARRAY_KINDS:
        if isinstance(value, numpy.generic):
            return scalar, (value.dtype.str, value.tobytes())
        return array, (value.dtype.str, value.shape, value.tobytes())
    if value.dtype.kind == "O":
        return objects, (value.shape, list(value.flat))
    return None


class Writer(pickle.Pickler):
    """Pickles plain data as such and everything else as what `reference` reduces it to."""

    def __init__(self, file: io.BytesIO, reference: Callable[[Any], Any]) -> None:
        super().__init__(file, protocol=5)
        self._reference = reference

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, types.FunctionType) and value in NAMED:
            return NotImplemented
        return reduce_plain(value) or self._reference(value)


class Reader(pickle.Unpickler):
    """Reads hostile pickles: no class and no function can be named but `makers`, and no opcode
    occurs that does more than make plain values and call them."""

    def __init__(self, payload: bytes | bytearray, makers: dict[str, Callable[..., Any]]) -> None:
        opcodes.check(payload)
        super().__init__(io.BytesIO(payload))
        self._makers = makers

    def find_class(self, module: str, name: str) -> Any:
        if name not in self._makers:
            raise pickle.UnpicklingError(f"a message that names {module}.{name}"[:200])
        return self._makers[name]


def dump(value: Any, reference: Callable[[Any], Any]) -> bytes:
    """`value` as bytes; `reference` as for `Writer`."""
    file = io.BytesIO()
    Writer(file, reference).dump(value)
    return file.getvalue()
