"""The process that holds the tests: it sees the candidate only through messages.

A value of the candidate arrives as plain data or as a `Remote`, which stands for an object that
stays over there. Whatever a `Remote` is asked, its equality is decided here, and by identity.
"""

import builtins
import json
import os
import pickle
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NoReturn
from weakref import WeakValueDictionary

from . import wire
from .candidate import in_one_line
from .jobs import GONE

LINK: "Link"
"""The connection of the job that is being judged."""
MOST_CALLBACKS = 100


def judge(connection: socket.socket, payload: int, report: int, limit: float | None) -> NoReturn:
    """Run the tests in the file `payload` and write to `report`; never returns."""
    with open(payload, "rb") as file:
        status, detail = run_tests(report, connection, file, limit)
    finish(report, status, detail)


def run_tests(
    report: int, candidate: socket.socket, file: BinaryIO, limit: float | None
) -> tuple[str, str]:
    """Status and detail of the pickled tests in `file`, run against `candidate`.

    `limit` is in seconds, for the candidate's body and for each call into it.
    """
    global LINK
    try:
        source, data, names = pickle.load(file)
        LINK = Link(report, candidate, limit)
        LINK.ask("start")
        scope: dict[str, Any] = {"__name__": "judge", "__builtins__": Names(), "DATA": data}
        for name in names:
            status, value = LINK.ask("get", name)
            if not status:
                return "error", f"NameError: name '{name}' is not defined"
            scope[name] = value
        exec(compile(source, "judge.py", "exec", dont_inherit=True), scope)
    except MemoryError:
        return "memory", "MemoryError"
    except AssertionError as error:
        return "failed", in_one_line(error)
    except BaseException as error:
        return "error", in_one_line(error)
    return "passed", ""


def finish(report: int, status: str, detail: str) -> NoReturn:
    """Report and leave at once: no `except` of the tests can stop it. The candidate learns of it
    from the end of its connection, when the report has been written."""
    os.write(report, json.dumps([status, detail[:300]]).encode())
    os._exit(0)


class Names(dict[str, Any]):
    """Builtins, and behind them the candidate's globals."""

    def __init__(self) -> None:
        super().__init__(vars(builtins))

    def __missing__(self, name: str) -> Any:
        status, value = LINK.ask("get", name)
        if not status:
            raise KeyError(name)
        return value


class Link:
    """Requests to the candidate's process, one at a time."""

    def __init__(self, report: int, connection: socket.socket, limit: float | None) -> None:
        self.report, self.connection, self.limit = report, connection, limit
        self.reading = False
        self.remotes: WeakValueDictionary[int, Remote] = WeakValueDictionary()
        self.callbacks: list[Callable[..., Any]] = []
        self.named: dict[str, Callable[..., Any]] = {
            "make": wire.make,
            "handle": self.remote,
            "callback": self.callbacks.__getitem__,
        }

    def ask(self, request: str, *arguments: Any) -> Any:
        """The candidate's answer; raises what the candidate raised."""
        return self.request(request, arguments)[0]

    def request(self, request: str, arguments: tuple[Any, ...]) -> tuple[Any, Any]:
        if self.reading:  # a message that puts something into an object of the candidate
            raise pickle.UnpicklingError("a message that uses what it names")
        deadline = None if self.limit is None else time.monotonic() + self.limit
        self.send((request, arguments), deadline)
        while True:
            kind, *rest = self.receive(deadline)
            if kind == "value":
                value, changed = rest
                return value, changed
            if kind == "raised":
                raise self.exception(*rest)
            self.send(self.call_back(*rest), deadline)

    def call_back(self, number: int, arguments: Any, keywords: Any) -> Any:
        """What one of the judge's callables, passed to the candidate, returns or raises."""
        try:
            return "returned", (self.callbacks[number](*arguments, **keywords),)
        except Exception as error:
            kind = type(error) if type(error).__module__ == "builtins" else RuntimeError
            return "failed", (kind(*error.args),)

    def send(self, message: Any, deadline: float | None) -> None:
        payload = wire.dump(message, self.reference)
        self.connection.settimeout(self.remaining(deadline))
        try:
            wire.send_frame(self.connection, payload)
        except TimeoutError:
            self.time_out()
        except OSError:
            os._exit(GONE)

    def receive(self, deadline: float | None) -> Any:
        self.connection.settimeout(self.remaining(deadline))
        try:
            payload = wire.receive_frame(self.connection, wire.MOST_BYTES)
            if deadline is not None and time.monotonic() > deadline:
                self.time_out()
        except TimeoutError:
            self.time_out()
        except (EOFError, OSError):
            os._exit(GONE)
        except (MemoryError, ValueError) as error:
            finish(self.report, "error", f"returned {in_one_line(error)}")
        self.reading = True
        try:
            message = wire.Reader(payload, self.named).load()
            if type(message) is not tuple or message[0] not in ("value", "raised", "callback"):
                raise pickle.UnpicklingError("no answer")
        except MemoryError:
            finish(self.report, "memory", "MemoryError")
        except Exception as error:
            finish(self.report, "error", f"returned what cannot be read: {in_one_line(error)}")
        self.reading = False
        return message

    def remaining(self, deadline: float | None) -> float | None:
        return None if deadline is None else max(deadline - time.monotonic(), 0.001)

    def time_out(self) -> NoReturn:
        finish(self.report, "timeout", f"a call ran longer than {self.limit:g} s")

    def remote(self, number: int) -> "Remote":
        """The one `Remote` of an object of the candidate."""
        if type(number) is not int:
            raise pickle.UnpicklingError("an object without a number")
        remote = self.remotes.get(number)
        if remote is None:
            remote = self.remotes[number] = Remote(number)
        return remote

    def reference(self, value: Any) -> Any:
        """How a judge's value that is not plain data is written."""
        if type(value) is Remote:
            return wire.handle, (object.__getattribute__(value, "_number"),)
        number = next((i for i, callback in enumerate(self.callbacks) if callback is value), None)
        if number is not None:
            return wire.callback, (number,)
        if callable(value) and not isinstance(value, type) and len(self.callbacks) < MOST_CALLBACKS:
            self.callbacks.append(value)
            return wire.callback, (len(self.callbacks) - 1,)
        return NotImplemented

    def exception(self, kinds: list[str], name: str, arguments: tuple[Any, ...]) -> BaseException:
        """The candidate's exception as the nearest builtin one; ends the job where that is none
        that tests may catch, such as SystemExit."""
        classes = (getattr(builtins, kind, None) for kind in kinds)
        kind: type[BaseException] = next(
            (c for c in classes if isinstance(c, type) and issubclass(c, BaseException)), Exception
        )
        if not issubclass(kind, Exception):
            words = " ".join(str(argument) for argument in arguments)
            finish(self.report, "error", f"{kind.__name__}: {words}".rstrip(": "))
        if name != kind.__name__ and name.isidentifier():
            kind = type(name, (kind,), {})
        try:
            return kind(*arguments)
        except Exception:
            return RuntimeError(f"{name}: {arguments}"[:300])


def update(old: Any, new: Any) -> None:
    """Change the judge's argument as the candidate has changed its copy."""
    if type(old) is not type(new):
        return

    def kept(before: Any, after: Any) -> Any:
        if type(before) is not type(after) or not isinstance(before, (list, dict, set)):
            return after
        update(before, after)
        return before

    if isinstance(old, list):
        old[:] = [*map(kept, old, new), *new[len(old) :]]
    elif isinstance(old, dict):
        items = {key: kept(old.get(key), value) for key, value in new.items()}
        old.clear()
        old.update(items)
    elif isinstance(old, set):
        old.clear()
        old.update(new)
    elif hasattr(old, "dtype"):
        if old.shape == new.shape:
            old[...] = new
    elif hasattr(old, "clear") and hasattr(old, "extend"):  # bytearray, deque
        old.clear()
        old.extend(new)


def forwarded(request: str, kind: type | None = None) -> Callable[..., Any]:
    """A method that asks the candidate; with `kind` it raises TypeError unless the answer is of
    this very type."""

    def ask(self: "Remote", *arguments: Any) -> Any:
        value = LINK.ask(request, self, *arguments)
        if kind is not None and type(value) is not kind:
            raise TypeError(f"not of type {kind.__name__}")
        return value

    return ask


class Remote:
    """An object of the candidate: uses are forwarded, comparisons are not."""

    __slots__ = ("__weakref__", "_number")

    def __init__(self, number: int) -> None:
        object.__setattr__(self, "_number", number)

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        value, changed = LINK.request("call", (self, arguments, keywords))
        if isinstance(changed, tuple):
            for old, new in zip((*arguments, *keywords.values()), changed, strict=False):
                update(old, new)
        return value

    def __getattribute__(self, name: str) -> Any:
        if name in LOCAL_NAMES or name.startswith("__array"):
            return object.__getattribute__(self, name)
        return LINK.ask("getattr", self, name)

    __setattr__ = forwarded("setattr")
    __delattr__ = forwarded("delattr")
    __getitem__ = forwarded("getitem")
    __setitem__ = forwarded("setitem")
    __delitem__ = forwarded("delitem")
    __next__ = forwarded("next")
    __int__ = forwarded("int", int)
    __float__ = forwarded("float", float)
    __index__ = forwarded("index", int)
    __str__ = forwarded("str", str)
    __repr__ = forwarded("repr", str)
    __dir__ = forwarded("dir")
    __enter__ = forwarded("enter")

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    def __hash__(self) -> int:
        return id(self)

    def __iter__(self) -> Iterator[Any]:
        iterator = LINK.ask("iter", self)
        if type(iterator) is not Remote:
            raise TypeError("iter() returned no iterator")
        return iterator

    def __len__(self) -> int:
        return int(LINK.ask("len", self))

    def __bool__(self) -> bool:
        return LINK.ask("bool", self) is True

    def __array__(self, *_: Any, **__: Any) -> NoReturn:
        # Otherwise numpy would ask for its length and its items, and make an array of the answers.
        raise TypeError("an object of the program is no array")

    def __exit__(self, *_: object) -> None:
        LINK.ask("exit", self)

    def __instancecheck__(self, other: Any) -> bool:
        return LINK.ask("isinstance", other, self) is True


LOCAL_NAMES = frozenset(("__class__", "__setstate__", "__reduce__", "__reduce_ex__", "__dict__"))
"""What a reader or a writer of pickles looks up: never asked of the candidate, nor are numpy's
`__array_interface__`, `__array_struct__` and the like, which describe memory."""
