"""A model hub on this machine: the few answers of the real one that its client asks for."""

import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789012345678901234567890123456789"
WEIGHTS = (".safetensors", ".bin")


@dataclass
class Hub:
    """Folders by hub id, and what was asked of their weights."""

    models: dict[str, Path]
    url: str = ""
    error: tuple[int, str] | None = None
    """Status and code in the place of every file, as for a gated model."""
    asked: list[tuple[str, int]] = field(default_factory=list)
    """File and bytes of every answer with a part of the weights."""


@contextlib.contextmanager
def serve(**models: Path) -> Iterator[Hub]:
    """A hub that has these models of the organisation `org`, at one commit each."""
    hub = Hub(models={f"org/{name}": folder for name, folder in models.items()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Answers", (_Answers,), {"hub": hub}))
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if match := re.fullmatch(r"/api/models/(\w+/\w+)/(revision|tree)/([^/]+)", path):
            self._describe(*match.groups())
        elif match := re.fullmatch(r"/(\w+/\w+)/resolve/([^/]+)/(.+)", path):
            self._resolve(*match.groups())
        else:
            self._send(404, b"")

    do_HEAD = do_GET

    def _describe(self, model: str, what: str, revision: str) -> None:
        if model not in self.hub.models:
            self._send(401, b"", {"X-Error-Code": "RepoNotFound"})
        elif revision not in ("main", COMMIT):
            self._send(404, b"", {"X-Error-Code": "RevisionNotFound"})
        elif what == "revision":
            self._send(200, json.dumps({"id": model, "sha": COMMIT, "siblings": []}).encode())
        else:
            folder = self.hub.models[model]
            files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
            tree = [_entry(path, path.relative_to(folder).as_posix()) for path in files]
            self._send(200, json.dumps(tree).encode())

    def _resolve(self, model: str, revision: str, name: str) -> None:
        path = self.hub.models[model] / name
        if self.hub.error is not None:
            status, code = self.hub.error
            self._send(status, b"", {"X-Error-Code": code} if code else {})
        elif not path.is_file():
            self._send(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        else:
            self._send_file(path.read_bytes(), name)

    def _send_file(self, content: bytes, name: str) -> None:
        headers = {
            "ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
        }
        part = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        whole, status = len(content), 200
        if part is not None and whole:
            first, last = int(part[1]), min(int(part[2] or whole), whole - 1)
            content, status = content[first : last + 1], 206
            headers["Content-Range"] = f"bytes {first}-{last}/{whole}"
        if name.endswith(WEIGHTS) and self.command == "GET":
            self.hub.asked.append((name, len(content)))
        self._send(status, content, headers)

    def _send(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, format: str, *_: Any) -> None:
        """Nothing is printed."""


def _entry(path: Path, name: str) -> dict[str, Any]:
    content = path.read_bytes()
    entry: dict[str, Any] = {"type": "file", "path": name, "size": len(content),
        "oid": hashlib.sha1(content).hexdigest()}  # fmt: skip
    if name.endswith(WEIGHTS):
        digest = hashlib.sha256(content).hexdigest()
        entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 134}
    return entry
