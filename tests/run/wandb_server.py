"""The part of W&B's server that its client needs to log or to sync a run: lines by file and offset,
as its file stream sends them."""

import gzip
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Runs = dict[str, dict[str, dict[int, Any]]]
"""By the run's id, the file's name, and the line's number."""


@contextmanager
def serving() -> Iterator[tuple[str, Runs]]:
    """The server's address, and what it has received."""
    runs: Runs = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            self._answer({})

        def do_PUT(self) -> None:
            self._body()
            self._answer({})

        def do_POST(self) -> None:
            raw = self._body()
            body = json.loads(raw) if "otel" not in self.path else {}  # telemetry is no JSON
            if not self.path.endswith("/file_stream"):
                self._answer({"data": data(body)})
                return
            run = runs.setdefault(self.path.split("/")[-2], {})
            for name, part in (body.get("files") or {}).items():
                lines = map(json.loads, part["content"])
                run.setdefault(name, {}).update(enumerate(lines, start=part["offset"]))
            self._answer({"limits": {}})

        def _body(self) -> bytes:
            raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            return gzip.decompress(raw) if self.headers.get("Content-Encoding") == "gzip" else raw

        def _answer(self, value: Any) -> None:
            content = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    def data(body: dict[str, Any]) -> dict[str, Any]:
        """The answer to a GraphQL query: a run is new or known, nothing else matters here."""
        operation = re.search(r"(?:query|mutation)\s+(\w+)", body.get("query", ""))
        name = (body.get("variables") or {}).get("name")
        known = name in runs
        project = {"id": "p", "name": "ssd", "entity": {"id": "e", "name": "me"}}
        bucket = {"id": "b", "name": name, "displayName": name, "config": "{}", "project": project}
        lines = history(runs, name)
        resumed = bucket | {
            "wandbConfig": '{"t": 1}', "historyLineCount": len(lines), "eventsLineCount": 0,
            "logLineCount": 0, "historyTail": json.dumps(list(map(json.dumps, lines[-1:]))),
            "eventsTail": "[]", "summaryMetrics": json.dumps(lines[-1] if lines else {}),
        }  # fmt: skip
        answers: dict[str, Any] = {
            "UpsertBucket": {"upsertBucket": {"bucket": bucket, "inserted": not known}},
            "RunResumeStatus": {"model": {"bucket": resumed if known else None}},
            "CreateRunFiles": {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": []}},
            "Viewer": {"viewer": {"id": "u", "entity": "me", "username": "me", "flags": "{}"}},
        }
        return answers.get(operation[1], {}) if operation else {}

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", runs
    finally:
        server.shutdown()
        server.server_close()


def history(runs: Runs, run: str) -> list[dict[str, Any]]:
    """A run's history as its page would show it, in the order of its lines."""
    lines = runs.get(run, {}).get("wandb-history.jsonl", {})
    return [lines[number] for number in sorted(lines)]
