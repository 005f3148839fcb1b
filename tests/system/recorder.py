"""A stand-in for Nova inside the test, that writes down every request as it came and answers what it is told."""

from __future__ import annotations

import hashlib
import hmac
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PORT = 8775


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def one(self, name: str) -> str:
        """The value of a header that is there exactly once."""
        (value,) = [value for key, value in self.headers if key.lower() == name.lower()]
        return value


@dataclass
class Recorder:
    """Takes requests that are signed with one of `secrets`; others get 403."""

    secrets: set[str] = field(default_factory=lambda: {"s3cr3t"})
    asked: list[Asked] = field(default_factory=list)
    answers: dict[str, tuple[int, list[tuple[str, str]], bytes]] = field(default_factory=dict)
    """By target; others get 200 and the id of the instance."""
    slow: set[str] = field(default_factory=set)
    """Targets that are not answered before `go_on` is set."""
    go_on: threading.Event = field(default_factory=threading.Event)

    def answer(self, asked: Asked) -> tuple[int, list[tuple[str, str]], bytes]:
        """Status, headers and body."""
        instance = asked.one("X-Instance-ID")
        if asked.one("X-Instance-ID-Signature") not in {_sign(secret, instance) for secret in self.secrets}:
            return 403, [], b"Invalid proxy request signature."
        return self.answers.get(asked.target, (200, [], instance.encode()))


def _sign(secret: str, text: str) -> str:
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


@contextmanager
def recorder() -> Iterator[Recorder]:
    """A running one on 127.0.0.1:PORT."""
    made = Recorder()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def take(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            made.asked.append(Asked(self.command, self.path, list(self.headers.items()), body))
            if self.path in made.slow:
                made.go_on.wait(30)
            status, headers, answer = made.answer(made.asked[-1])
            self.send_response(status)
            for name, value in [*headers, ("Content-Length", str(len(answer)))]:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *arguments: object) -> None:
            pass

    for method in ("GET", "POST", "PUT", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.take)
    with ThreadingHTTPServer(("127.0.0.1", PORT), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, name="nova")
        thread.start()
        yield made
        server.shutdown()
        thread.join()
