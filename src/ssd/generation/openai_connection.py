"""A connection to a server of the OpenAI protocol: many requests at once, and patience with a
server that is away or busy.

The requests run in an event loop in a thread of its own. So a signal meets the process's main
thread while that waits for an answer, and not a callback of the loop, which would swallow it.
"""

import asyncio
import os
import random
import socket
import time
from collections.abc import Coroutine
from concurrent.futures import Future
from threading import Thread
from typing import Any, Self

import httpx

from ssd.errors import HardwareError, one_line

KEY = "OPENAI_API_KEY"
"""Environment variable: the server's key. It is in no setting, file or message."""
BUSY = (408, 429, *range(500, 600))
"""HTTP codes that another attempt may not meet."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before a request is sent again; doubled each time."""
# An answer of 64K tokens takes an hour or more, so there is no limit on the wait for it. A machine
# that vanished says nothing either: TCP itself asks after a minute of silence, and gives up after
# two more. That also keeps routers from forgetting a connection that is silent for long.
TIMEOUT = httpx.Timeout(None, connect=10.0, write=60.0)
KEEP_ALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 8),
]
ANSWERS = ("stop", "length")
"""How an answer ends that is whole; a server that shuts down says `abort`."""


class Refusal(HardwareError):
    """The server does not take a request, and would not take it again."""


class Connection:
    """Requests to one server; whoever opens it closes it, by `with`. What is under way then is
    given up, and the server learns that by the closed connections."""

    def __init__(self, url: str, *, max_concurrency: int, retry_seconds: float) -> None:
        self.url = url.rstrip("/")
        self.retry_seconds = retry_seconds
        self.last_answer = 0.0
        key = os.environ.get(KEY)
        limits = httpx.Limits(max_connections=max_concurrency)
        self.client = httpx.AsyncClient(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=TIMEOUT,
            transport=httpx.AsyncHTTPTransport(limits=limits, socket_options=KEEP_ALIVE),
        )
        self.loop = asyncio.new_event_loop()
        self.thread = Thread(target=self.loop.run_forever, daemon=True, name="server requests")
        self.thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._start(self._close()).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def get(self, url: str) -> Any:
        """What the server has at an address, as JSON.

        Raises:
            HardwareError: it does not answer within `retry_seconds`, or has nothing there.
        """
        return self._start(self._ask("GET", url)).result()

    def complete(self, body: dict[str, Any]) -> "Future[dict[str, Any]]":
        """Send a request for one completion; its only choice is the result.

        The result raises `Refusal` where the server does not take the request, and `HardwareError`
        where it has answered nothing for `retry_seconds`.
        """
        return self._start(self._ask("POST", f"{self.url}/completions", body))

    def _start(self, work: Coroutine[Any, Any, Any]) -> "Future[Any]":
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    async def _close(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self.client.aclose()

    async def _ask(self, method: str, url: str, body: dict[str, Any] | None = None) -> Any:
        """The server's answer, after as many attempts as it takes."""
        pause, first_fault = FIRST_PAUSE, 0.0
        while True:
            try:
                response = await self.client.request(method, url, json=body)
                answer, fault = self._read(response, is_completion=body is not None)
            except httpx.TransportError as error:
                answer, fault = None, f"{type(error).__name__}: {one_line(error)}"[:200]
            now = time.monotonic()
            if fault is None:
                self.last_answer = now
                return answer
            first_fault = first_fault or now
            # Others are answered: this one waits for its turn.
            if now - max(first_fault, self.last_answer) >= self.retry_seconds:
                raise HardwareError(self._gone(fault))
            await asyncio.sleep(pause * random.uniform(0.5, 1))  # not all of them at once
            pause = min(2 * pause, LONGEST_PAUSE)

    def _read(self, response: httpx.Response, *, is_completion: bool) -> tuple[Any, str | None]:
        """A response's content, and why it is worth another attempt, None where it is not."""
        code = response.status_code
        if code in BUSY:
            return None, f"HTTP {code}: {_message(response)}"
        if code in (401, 403):
            raise Refusal(
                f"sampler.url={self.url} asks for a key (HTTP {code}): set the environment "
                f"variable {KEY}"
            )
        try:
            content = response.json()
        except ValueError:
            content = None
        if code != 200 or not isinstance(content, dict):
            what = _message(response) or "no JSON"
            raise Refusal(f"sampler.url={self.url} refuses it (HTTP {code}: {what})")
        if not is_completion:
            return content, None
        choice = (content.get("choices") or [{}])[0]
        reason = choice.get("finish_reason")
        return choice, None if reason in ANSWERS else f"an answer ended with {reason!r}"

    def _gone(self, fault: str) -> str:
        waited = f" for {self.retry_seconds:.0f} s" if self.retry_seconds else ""
        return (
            f"sampler.url={self.url} has not answered{waited} ({fault}): start the server there, "
            "or correct the address; the same command goes on from what is finished"
        )


def _message(response: httpx.Response) -> str:
    """What a server says of an error, in the words of the protocol or its own."""
    try:
        content = response.json()
        text = str((content.get("error") or content).get("message") or content)
    except (ValueError, AttributeError):
        text = response.text
    return " ".join(text.split())[:300]
