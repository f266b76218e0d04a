"""The process that holds the candidate's code: a program of its own, or a module that serves calls.

Nothing here is trusted once the candidate has run; it can only replace things in its own process.
"""

import atexit
import contextlib
import io
import os
import pickle
import socket
import sys
import threading
import types
from collections.abc import Callable
from typing import Any, NoReturn

from . import wire

SCALARS = frozenset((type(None), bool, int, float, complex, str, bytes))
"""Types of arguments that a call cannot change."""
STREAMS = (
    ("stdin", "r", 2**16, "surrogateescape"),
    ("stdout", "w", 2**16, "surrogateescape"),
    ("stderr", "w", 1, "backslashreplace"),
)
OUT_OF_MEMORY = pickle.dumps(("raised", ["MemoryError"], "MemoryError", ()))
Request = dict[str, Any]
"""`before`, what runs before the candidate; its own source, `code`; `any_exit`."""


def open_streams() -> None:
    """Python's standard streams on descriptors 0, 1 and 2, as a program in a UTF-8 locale has
    them; what the descriptors are is changed in a fork, the objects are not."""
    null, (reader, writer) = os.open(os.devnull, os.O_RDONLY), os.pipe()
    for number, descriptor in enumerate((null, writer, writer)):
        os.dup2(descriptor, number)
    for descriptor in (null, reader, writer):
        os.close(descriptor)
    for number, (name, mode, buffering, errors) in enumerate(STREAMS):
        stream = open(  # noqa: SIM115
            number, mode, buffering, encoding="utf-8", errors=errors, closefd=False
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)


def execute(name: str, request: Request) -> dict[str, Any]:
    """Run the candidate as the module `name` and return its globals."""
    module = types.ModuleType(name)
    sys.modules[name] = module
    sys.argv = ["program.py"]
    exec(compile(request["before"], "before.py", "exec", dont_inherit=True), module.__dict__)
    exec(compile(request["code"], "program.py", "exec", dont_inherit=True), module.__dict__)
    return module.__dict__


def run_program(request: Request) -> None:
    """Run the candidate as a program and leave with its exit code; never returns. With `any_exit`
    whatever it gives `sys.exit` counts as 0.

    Its last words on standard error are the exception that ended it, in one line.
    """
    code = 0
    try:
        execute("__main__", request)
    except SystemExit as error:
        code = 0 if request["any_exit"] else exit_code(error)
    except BaseException as error:
        code = 1
        last_words(error)
    try:
        if threading.active_count() > 1:
            shutdown: Any = vars(threading)["_shutdown"]
            shutdown()  # waits for them
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.__stdout__):
            if stream is not None and not stream.closed:
                stream.flush()
        flush_files()
    except BaseException as error:
        code = code or 120
        last_words(error)
    os._exit(code)


def flush_files() -> None:
    """Write out what files hold that the program has not closed, as the interpreter does where it
    deletes a module's names; like there, no error of theirs counts."""
    with contextlib.suppress(Exception):
        for value in list(vars(sys.modules["__main__"]).values()):
            if isinstance(value, io.IOBase) and not value.closed:
                value.flush()


def exit_code(error: SystemExit) -> int:
    """The exit code that the interpreter makes of `sys.exit`'s argument."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    os.write(2, f"\n{error.code}\n".encode("utf-8", "backslashreplace")[:2000])
    return 1


def last_words(error: BaseException) -> None:
    os.write(2, f"\n{in_one_line(error)}\n".encode("utf-8", "backslashreplace"))


def in_one_line(error: BaseException) -> str:
    """`ValueError: its message`, 300 characters at most; safe with exceptions that do not print."""
    try:
        text = str(error)[:2000]
    except BaseException:
        text = ""
    return " ".join(f"{type(error).__name__}: {text}".split())[:300].rstrip(": ")


class Callback:
    """A callable that the judge passed as an argument: called here, run there."""

    def __init__(self, server: "Server", number: int) -> None:
        self.server, self.number = server, number

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        return self.server.ask((self.number, arguments, keywords))


class Server:
    """The candidate's side of the connection: objects that stay here, and requests on them."""

    def __init__(self, connection: socket.socket, request: Request) -> None:
        self.connection, self.request = connection, request
        self.kept: list[Any] = []
        self.numbers: dict[int, int] = {}
        self.globals: dict[str, Any] = {}
        self.requests: dict[str, Callable[..., Any]] = {
            "start": self.start,
            "get": self.get,
            "getattr": getattr,
            "setattr": setattr,
            "delattr": delattr,
            "getitem": lambda target, key: target[key],
            "setitem": lambda target, key, value: target.__setitem__(key, value),
            "delitem": lambda target, key: target.__delitem__(key),
            "len": len,
            "iter": iter,
            "next": next,
            "bool": bool,
            "int": int,
            "float": float,
            "index": lambda target: target.__index__(),
            "str": str,
            "repr": repr,
            "dir": dir,
            "isinstance": lambda target, kind: isinstance(target, kind),
            "enter": lambda target: target.__enter__(),
            "exit": lambda target: target.__exit__(None, None, None),
        }

    def run(self) -> NoReturn:
        """Answer the judge, who first has the candidate's body run, until it is gone."""
        while True:
            try:
                message = self.receive()
            except EOFError:
                os._exit(0)
            self.answer(message)

    def receive(self) -> Any:
        return JudgeReader(self, wire.receive_frame(self.connection)).load()

    def answer(self, message: Any) -> None:
        """Do what one request asks and send what comes of it."""
        request, arguments = message
        try:
            if request == "call":  # only a call tells the arguments that it has changed
                reply = self.dump(("value", *self.call(*arguments)))
            else:
                reply = self.dump(("value", self.requests[request](*arguments), None))
        except MemoryError:
            reply = OUT_OF_MEMORY
        except BaseException as error:
            reply = self.dump(("raised", *described(error)))
        wire.send_frame(self.connection, reply)

    def start(self) -> None:
        self.globals = execute("program", self.request)

    def get(self, name: str) -> tuple[bool, Any]:
        return (True, self.globals[name]) if name in self.globals else (False, None)

    def call(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]
    ) -> tuple[Any, Any]:
        """The result, and the arguments where the call has changed them."""
        values = (*arguments, *keywords.values())
        if all(type(value) in SCALARS for value in values):
            return function(*arguments, **keywords), None
        before = self.dump(values)
        result = function(*arguments, **keywords)
        return result, (values if self.dump(values) != before else None)

    def ask(self, call: Any) -> Any:
        """Have the judge call one of its own callables, serving it meanwhile."""
        wire.send_frame(self.connection, self.dump(("callback", *call)))
        while True:
            message = self.receive()
            if message[0] == "returned":
                return message[1][0]
            if message[0] == "failed":
                raise message[1][0]
            self.answer(message)

    def dump(self, value: Any) -> bytes:
        return wire.dump(value, self.reference)

    def reference(self, value: Any) -> Any:
        """Keep an object that is not plain data, and write its number."""
        if isinstance(value, Callback):
            return wire.callback, (value.number,)
        number = self.numbers.get(id(value))
        if number is None:
            number = self.numbers[id(value)] = len(self.kept)
            self.kept.append(value)
        return wire.handle, (number,)


class JudgeReader(pickle.Unpickler):
    """Reads what the judge sends, which is trusted."""

    def __init__(self, server: Server, payload: bytearray) -> None:
        super().__init__(io.BytesIO(payload))
        self.server = server

    def find_class(self, module: str, name: str) -> Any:
        if module == wire.__name__ and name == "handle":
            return self.server.kept.__getitem__
        if module == wire.__name__ and name == "callback":
            return lambda number: Callback(self.server, number)
        return super().find_class(module, name)


def described(error: BaseException) -> tuple[list[str], str, tuple[Any, ...]]:
    """Names of the builtin exceptions that `error` is, its own name, and its arguments."""
    kinds = [kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins"]
    try:
        plain = all(type(value) in SCALARS for value in error.args)
        arguments = error.args if plain else (str(error),)
    except BaseException:
        arguments = ()
    return kinds, type(error).__name__, arguments
