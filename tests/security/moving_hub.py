"""A hub whose branch moves with every request, and a process that fetches from it.

Commit n of each repository holds its own files. Whoever asks for a branch is answered with a newer
commit each time; whoever asks for a commit gets that one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from urllib.parse import unquote, urlsplit

Files = Mapping[str, bytes]

_COMMIT = re.compile("[0-9a-f]{40}")
_API = re.compile(
    r"/api/(models|datasets)/([^/]+/[^/]+)(?:/(revision|tree|paths-info)/([^/]+)(.*))?"
)
_FILE = re.compile(r"/(datasets/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


def commit(number: int) -> str:
    return f"{number:040x}"


@dataclass
class Hub:
    """``repositories``: kind and name -> the files of each commit, oldest first. ``asked`` holds
    (kind and name, revision, what) of every request.
    """

    repositories: Mapping[str, list[Files]]
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    tokens: set[str] = field(default_factory=set)
    _next: dict[str, int] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def resolve(self, name: str, revision: str, what: str) -> tuple[str, Files] | None:
        """The commit that a revision is now, and its files."""
        with self._lock:
            self.asked.append((name, revision, what))
            versions = self.repositories.get(name)
            if versions is None:
                return None
            if _COMMIT.fullmatch(revision):
                number = int(revision, 16) - 1
            else:
                number = min(self._next.get(name, 0), len(versions) - 1)
                self._next[name] = number + 1
            return commit(number + 1), versions[number]


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, hub: Hub, *arguments: object) -> None:
        self.hub = hub
        super().__init__(*arguments)  # type: ignore[arg-type]

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        self._answer(with_body=True, wanted=self.rfile.read(length).decode())

    def _answer(self, *, with_body: bool, wanted: str = "") -> None:
        self.hub.tokens.add(self.headers.get("Authorization", ""))
        path = unquote(urlsplit(self.path).path)
        if found := _API.fullmatch(path):
            self._api(found, with_body=with_body, wanted=wanted)
        elif found := _FILE.fullmatch(path):
            self._file(found, with_body=with_body)
        else:
            self._send(404, b"{}", with_body=with_body)

    def _api(self, found: re.Match[str], *, with_body: bool, wanted: str) -> None:
        kind, name, what, revision, rest = found.groups()
        resolved = self.hub.resolve(f"{kind}/{name}", revision or "main", what or "info")
        if resolved is None:
            return self._missing("RepoNotFound")
        sha, files = resolved
        if what in ("tree", "paths-info"):
            folder = (rest or "").strip("/")
            listed = [
                {"type": "file", "path": file, "size": len(data), "oid": _oid(data)}
                for file, data in files.items()
                if file.startswith(f"{folder}/" if folder else "")
                and (what == "tree" or file in unquote(wanted))
            ]
            return self._send(200, json.dumps(listed).encode(), with_body=with_body)
        siblings = [{"rfilename": file} for file in files]
        about = {"id": name, "sha": sha, "siblings": siblings, "private": False, "tags": []}
        about |= {"lastModified": "2026-01-01T00:00:00.000Z", "downloads": 0, "likes": 0}
        return self._send(200, json.dumps(about).encode(), with_body=with_body)

    def _file(self, found: re.Match[str], *, with_body: bool) -> None:
        kind, name, revision, file = found.groups()
        resolved = self.hub.resolve(f"{kind or 'models/'}{name}", revision, file)
        if resolved is None:
            return self._missing("RepoNotFound")
        sha, files = resolved
        if file not in files:
            return self._missing("EntryNotFound")
        headers = {"X-Repo-Commit": sha, "ETag": f'"{_oid(files[file])}"'}
        return self._send(200, files[file], headers, with_body=with_body)

    def _missing(self, code: str) -> None:
        self._send(404, b"{}", {"X-Error-Code": code}, with_body=self.command != "HEAD")

    def _send(
        self, status: int, body: bytes, headers: Mapping[str, str] | None = None, *, with_body: bool
    ) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)


def _oid(data: bytes) -> str:
    return hashlib.sha1(data, usedforsecurity=False).hexdigest()


@contextmanager
def serving(hub: Hub) -> Iterator[str]:
    """The address of the hub, while it answers."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Answer, hub))
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
