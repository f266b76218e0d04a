"""Servers of the OpenAI protocol: vLLM's, and a small one that can be foreign or fail."""

import json
import os
import random
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

SECONDS = 400
"""A server that has not started by then never does."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def vllm_server(folder: Path, log: Path, port: int, *more: str) -> Iterator[subprocess.Popen[str]]:
    """vLLM's own server of the checkpoint in `folder`, on the CPU in fp32."""
    environment = {
        **os.environ,
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
        "TORCHDYNAMO_DISABLE": "1",
    }
    # On a CPU a seeded request that is prefilled in parts kills vLLM's engine.
    settings = "--dtype float32 --max-num-seqs 64 --block-size 32 --enforce-eager"
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder),
        "--host", "127.0.0.1", "--port", str(port), "--no-enable-chunked-prefill",
        *settings.split(), *more,
    ]  # fmt: skip
    with log.open("a") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=output, text=True
        )
    try:
        _wait_until_ready(process, port, log)
        yield process
    finally:
        process.terminate()
        process.wait()


def _wait_until_ready(process: subprocess.Popen[str], port: int, log: Path) -> None:
    started = time.monotonic()
    while time.monotonic() - started < SECONDS:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                f"http://127.0.0.1:{port}/health", timeout=5
            )
        except OSError:
            time.sleep(0.5)
        else:
            return
    raise AssertionError(log.read_text()[-3000:])


class SmallServer(ThreadingHTTPServer):
    """Draws bytes by the seed of a request; its attributes say what it does otherwise."""

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Answers)
        self.models = [{"id": "small", "root": "some/model", "max_model_len": 512}]
        self.change: dict[str, Any] = {}
        """Of every choice."""
        self.has_seeds = True
        self.codes: list[int] = []
        """HTTP codes of the next requests for completions."""
        self.refused_prompt: list[int] | None = None
        self.logprob = -1.0
        """Of every token, under a decoding that truncates."""
        self.prompt_logprob: float | None = None
        """Of every token of a prompt; None returns none."""
        self.vanish_after: int | None = None
        """Completions after which every connection is cut."""
        self.hold: Event | None = None
        """What answers wait for."""
        self.keys: set[str | None] = set()
        self.lock = Lock()
        self.num_answered = self.num_at_once = self.most_at_once = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, *_: Any) -> None:
        """Connections that are cut are what is tested."""


class _Answers(BaseHTTPRequestHandler):
    server: SmallServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Tests read no log of it."""

    def do_GET(self) -> None:
        self.server.keys.add(self.headers["Authorization"])
        if self.path == "/v1/models":
            self._send(200, {"object": "list", "data": self.server.models})
        else:
            self._send(404, {"error": {"message": "no such address"}})

    def do_POST(self) -> None:
        server = self.server
        self.server.keys.add(self.headers["Authorization"])
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.num_at_once += 1
            server.most_at_once = max(server.most_at_once, server.num_at_once)
        try:
            if server.hold is not None:
                server.hold.wait()
            self._complete(body)
        finally:
            with server.lock:
                server.num_at_once -= 1

    def _complete(self, body: dict[str, Any]) -> None:
        server = self.server
        with server.lock:
            code = server.codes.pop(0) if server.codes else 200
            server.num_answered += 1
            is_gone = server.vanish_after is not None and server.num_answered > server.vanish_after
        if is_gone:
            self.connection.shutdown(socket.SHUT_RDWR)
        elif code != 200 or body["prompt"] == server.refused_prompt:
            self._send(code if code != 200 else 400, {"error": {"message": "not like this"}})
        else:
            self._send(200, {"choices": [self._choice(body) | server.change]})

    def _choice(self, body: dict[str, Any]) -> dict[str, Any]:
        dice = random.Random(body.get("seed") if self.server.has_seeds else None)
        ids = [dice.randrange(33, 127) for _ in range(body["max_tokens"])]
        choice = {
            "token_ids": ids,
            "text": self.server.tokenizer.decode(ids),  # type: ignore[attr-defined]
            "finish_reason": "length",
        }
        value = self.server.prompt_logprob
        if "prompt_logprobs" in body and value is not None:
            later = [{str(token_id): {"logprob": value}} for token_id in body["prompt"][1:]]
            choice["prompt_logprobs"] = [None, *later]
        if "logprobs" in body:
            tokens = [f"token_id:{token_id}" for token_id in ids]
            value = -1.0 if body["top_k"] == 0 else self.server.logprob
            choice["logprobs"] = {
                "tokens": tokens,
                "token_logprobs": [value] * len(ids),
                "top_logprobs": [{token: value} for token in tokens],
            }
        return choice

    def _send(self, code: int, content: dict[str, Any]) -> None:
        payload = json.dumps(content).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)


@contextmanager
def small_server(tokenizer: Any, port: int = 0) -> Iterator[SmallServer]:
    with SmallServer(port) as server:
        server.tokenizer = tokenizer  # type: ignore[attr-defined]
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
