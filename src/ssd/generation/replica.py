"""One of several engines side by side, in a process of its own: `python -m ssd.generation.replica
SOCKET` draws what it is sent through a connection, wherever its other end is.

It is told what to load (`messages.py`), then for each job how to draw, requests as it ends others,
and None after the last. The process needs this package and the model, and no folder that is shared.
"""

import os
import signal
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any

from ssd.generation.engine import Engine, Request
from ssd.generation.engines import start_engine
from ssd.generation.messages import Answered, Draw, Load, Ready, Ticked, key
from ssd.runtime.children import ENDING_SECONDS, end_all
from ssd.runtime.reporting import REASON, reporting_errors

TICK_SECONDS = 1.0
"""Least time between two messages about tokens."""
Inbox = SimpleQueue[Any]
"""What was received: `Draw`, lists of requests, None."""


def serve(connection: Connection) -> None:
    """Load the engine that the first message names, and draw until this process is stopped."""
    load: Load = connection.recv()
    inbox: Inbox = SimpleQueue()
    # Always received at once: were both sides to wait until the other one reads, none would.
    Thread(target=_receive, args=(connection, inbox), daemon=True, name="requests").start()
    with start_engine(load) as engine:
        connection.send(Ready(engine.num_sequences))
        while True:
            _draw(engine, inbox.get(), inbox, connection)


def _receive(connection: Connection, inbox: Inbox) -> None:
    try:
        while True:
            inbox.put(connection.recv())
    except (EOFError, OSError):  # whoever wants the answers has gone
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(ENDING_SECONDS)  # the engine did not end: nobody above is left to see to it
        if REASON in os.environ:
            end_all(Path(os.environ[REASON]).parent)
        os._exit(1)


def _draw(engine: Engine, draw: Draw, inbox: Inbox, connection: Connection) -> None:
    num_unanswered = num_tokens = 0
    last_tick = time.monotonic()

    def incoming() -> Iterator[Request | None]:
        nonlocal num_unanswered
        while True:
            try:
                requests = inbox.get(block=num_unanswered == 0)
            except Empty:
                yield None
                continue
            if requests is None:
                return
            for request in requests:
                num_unanswered += 1
                yield request

    def tick(drawn: int) -> None:
        nonlocal num_tokens, last_tick
        num_tokens += drawn
        if time.monotonic() - last_tick > TICK_SECONDS:
            connection.send(Ticked(draw.job, num_tokens))
            num_tokens, last_tick = 0, time.monotonic()

    for request, completion in engine.generate(incoming(), logprobs=draw.logprobs, tick=tick):
        num_unanswered -= 1
        connection.send(Answered(draw.job, key(request), completion))


def main() -> None:
    """Serve the process that started this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is answered by that process
    with reporting_errors():
        serve(Connection(int(sys.argv[1])))


if __name__ == "__main__":
    main()
