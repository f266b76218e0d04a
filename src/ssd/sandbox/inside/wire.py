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

HEADER = struct.Struct("!Q")
MOST_BYTES = 2**28
"""The longest frame that is accepted from a candidate."""
ARRAY_KINDS = frozenset("biufcSUmM")
"""Kinds of numpy data that hold no Python objects."""
OPCODES = {
    0: (
        pickle.MARK, pickle.STOP, pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.EMPTY_LIST,
        pickle.APPEND, pickle.APPENDS, pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1,
        pickle.TUPLE2, pickle.TUPLE3, pickle.EMPTY_DICT, pickle.SETITEM, pickle.SETITEMS,
        pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET, pickle.MEMOIZE, pickle.POP,
        pickle.POP_MARK, pickle.STACK_GLOBAL, pickle.REDUCE,
    ),
    1: (pickle.BININT1, pickle.BINGET, pickle.PROTO),
    2: (pickle.BININT2,),
    4: (pickle.BININT, pickle.LONG_BINGET),
    8: (pickle.BINFLOAT, pickle.FRAME),
}  # fmt: skip
"""Opcodes by the length of what follows them. GLOBAL, INST, OBJ and NEWOBJ are not among them,
which make objects by other ways than `find_class` and a call, nor BUILD, which sets attributes."""
COUNTED = {
    1: (pickle.LONG1, pickle.SHORT_BINUNICODE, pickle.SHORT_BINBYTES),
    4: (pickle.LONG4, pickle.BINUNICODE, pickle.BINBYTES),
    8: (pickle.BINUNICODE8, pickle.BINBYTES8, pickle.BYTEARRAY8),
}
"""Opcodes by the length of the number of bytes that follow them."""
STEPS = [0] * 256
"""By opcode: the distance to the next one; negative if a number of that length gives it, 0 if the
opcode is not allowed."""
for length, names in OPCODES.items():
    for name in names:
        STEPS[name[0]] = 1 + length
for length, names in COUNTED.items():
    for name in names:
        STEPS[name[0]] = -length


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


def make(kind: str, *fields: Any) -> Any:
    """In a pickle: a plain value, made by the maker of that name."""
    return MAKERS[kind](*fields)


def handle(number: int) -> Any:
    """In a pickle: an object that the candidate's process keeps; each side reads it with a callable
    of its own."""
    raise LookupError(f"object {number} of the candidate")


def callback(number: int) -> Any:
    """In a pickle: a callable that the judge keeps."""
    raise LookupError(f"callable {number} of the judge")


NAMED: frozenset[Any] = frozenset((make, handle, callback))
"""Everything that a message can name."""


def itself(value: Any) -> Any:
    return value


def zoned(value: Any) -> tuple[Any, int]:
    offset = value.utcoffset() if isinstance(value, datetime.datetime) else None
    return (None if offset is None else datetime.timezone(offset)), value.fold


def moment(date: tuple[int, int, int], time: tuple[int, ...], tzinfo: Any, fold: int) -> Any:
    hour, minute, second, microsecond = time
    return datetime.datetime(*date, hour, minute, second, microsecond, tzinfo, fold=fold)


def clock(time: tuple[int, ...], tzinfo: Any, fold: int) -> Any:
    hour, minute, second, microsecond = time
    return datetime.time(hour, minute, second, microsecond, tzinfo, fold=fold)


def clock_fields(value: Any) -> tuple[Any, ...]:
    return (value.hour, value.minute, value.second, value.microsecond), *zoned(value)


FACTORIES = {kind.__name__: kind for kind in (int, float, str, list, dict, set)}
PLAIN: dict[type, tuple[Callable[[Any], tuple[Any, ...]], Callable[..., Any]]] = {
    int: (lambda x: (int.__index__(x),), itself),
    float: (lambda x: (float.__float__(x),), itself),
    complex: (lambda x: (complex(x).real, complex(x).imag), lambda real, imag: complex(real, imag)),
    str: (lambda x: (str.__str__(x),), itself),
    bytes: (lambda x: (bytes.__getitem__(x, slice(None)),), itself),
    bytearray: (lambda x: (bytes(x),), lambda octets: bytearray(octets)),
    list: (lambda x: (list.__getitem__(x, slice(None)),), itself),
    tuple: (lambda x: (tuple(tuple.__iter__(x)),), itself),
    set: (lambda x: (set(set.__iter__(x)),), itself),
    frozenset: (lambda x: (frozenset(frozenset.__iter__(x)),), itself),
    Counter: (lambda x: (dict.copy(x),), lambda items: Counter(dict(items))),
    OrderedDict: (lambda x: (list(OrderedDict.items(x)),), lambda items: OrderedDict(items)),
    defaultdict: (
        lambda x: (dict.copy(x), getattr(x.default_factory, "__name__", "")),
        lambda items, factory: defaultdict(FACTORIES.get(factory), items),
    ),
    dict: (lambda x: (dict.copy(x),), itself),
    deque: (lambda x: (list(deque.__iter__(x)), x.maxlen), lambda items, most: deque(items, most)),
    range: (
        lambda x: (x.start, x.stop, x.step),
        lambda start, stop, step: range(start, stop, step),
    ),
    slice: (
        lambda x: (x.start, x.stop, x.step),
        lambda start, stop, step: slice(start, stop, step),
    ),
    Decimal: (lambda x: (Decimal.__str__(x),), lambda text: Decimal(text)),
    Fraction: (lambda x: (x.numerator, x.denominator), lambda above, below: Fraction(above, below)),
    datetime.timedelta: (
        lambda x: (x.days, x.seconds, x.microseconds),
        lambda days, seconds, microseconds: datetime.timedelta(days, seconds, microseconds),
    ),
    datetime.timezone: (lambda x: (x.utcoffset(None),), lambda offset: datetime.timezone(offset)),
    datetime.datetime: (lambda x: ((x.year, x.month, x.day), *clock_fields(x)), moment),
    datetime.date: (lambda x: (x.year, x.month, x.day), lambda *fields: datetime.date(*fields)),
    datetime.time: (clock_fields, clock),
}
"""Plain types, subclasses before their bases: the fields that a value is written as, and what makes
it of them again."""


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


MAKERS: dict[str, Callable[..., Any]] = {
    **{kind.__name__: maker for kind, (_, maker) in PLAIN.items()},
    **{maker.__name__: maker for maker in (array, scalar, objects)},
}
"""Everything that a hostile message can make, each of plain values."""


def reduce_plain(value: Any) -> Any:
    """A pickle reduction to plain data, or None for what is none: numpy's objects included,
    where numpy is loaded."""
    for kind, (fields, _) in PLAIN.items():
        if isinstance(value, kind):
            return make, (kind.__name__, *fields(value))
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, (numpy.ndarray, numpy.generic)):
        return None
    if value.dtype.kind in ARRAY_KINDS:
        if isinstance(value, numpy.generic):
            return make, ("scalar", value.dtype.str, value.tobytes())
        return make, ("array", value.dtype.str, value.shape, value.tobytes())
    if value.dtype.kind == "O":
        return make, ("objects", value.shape, list(value.flat))
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


def check_opcodes(payload: bytes | bytearray) -> None:
    """Walk over a pickle without reading it.

    Raises:
        pickle.UnpicklingError: it holds another opcode, or has no end.
    """
    position, end, steps = 0, len(payload), STEPS
    while position < end:
        step = steps[payload[position]]
        if step > 0:
            position += step
        elif step < 0:
            start = position + 1 - step
            position = start + int.from_bytes(payload[position + 1 : start], "little")
        else:
            raise pickle.UnpicklingError(f"a message with opcode {payload[position]:#x}")
    if position != end or payload[-1:] != pickle.STOP:
        raise pickle.UnpicklingError("a message without an end")


class Reader(pickle.Unpickler):
    """Reads hostile pickles: no class and no function can be named but those of `named`, and no
    opcode occurs that does more than make plain values and call them."""

    def __init__(self, payload: bytes | bytearray, named: dict[str, Callable[..., Any]]) -> None:
        check_opcodes(payload)
        super().__init__(io.BytesIO(payload))
        self._named = named

    def find_class(self, module: str, name: str) -> Any:
        if name not in self._named:
            raise pickle.UnpicklingError(f"a message that names {module}.{name}"[:200])
        return self._named[name]


def dump(value: Any, reference: Callable[[Any], Any]) -> bytes:
    """`value` as bytes; `reference` as for `Writer`."""
    file = io.BytesIO()
    Writer(file, reference).dump(value)
    return file.getvalue()
