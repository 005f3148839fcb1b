"""A client of the control socket out of the standard library alone, so that the command line starts quickly."""

from __future__ import annotations

import errno
import http.client
import json
import socket
from typing import Any
from urllib.parse import quote, urlencode

from dataplane.errors import Mistake, NodeplaneError

# Chosen: above a store that fsyncs on a slow disk, below a user's patience; `wait` adds its own seconds.
ANSWER_SECONDS = 30.0


class UnreachableError(NodeplaneError):
    """No daemon answers on the socket; `hint` is the next step."""

    def __init__(self, text: str, hint: str) -> None:
        self.hint = hint
        super().__init__(text)


class RefusedError(NodeplaneError):
    """The daemon answered with a Problem: `status` is HTTP's, `mistakes` those of a document."""

    def __init__(self, status: int, error: str, hint: str = "", mistakes: tuple[Mistake, ...] = ()) -> None:
        self.status = status
        self.hint = hint
        self.mistakes = mistakes
        super().__init__(error)


class ControlClient:
    """Requests over one Unix socket; every request has a connection of its own."""

    def __init__(self, path: str) -> None:
        self.path = path

    def get(self, *segments: str, seconds: float = 0.0, **query: str | float | None) -> bytes:
        """The body of `GET /segment/segment...?query`; a query value None is left out.

        `seconds` is how long the daemon may take on purpose. Raises UnreachableError, RefusedError.
        """
        return self._request("GET", segments, None, seconds, query)

    def post(self, *segments: str, body: bytes, seconds: float = 0.0, **query: str | float | None) -> bytes:
        """The body of the answer to a JSON document; as `get`."""
        return self._request("POST", segments, body, seconds, query)

    def _request(
        self,
        method: str,
        segments: tuple[str, ...],
        body: bytes | None,
        seconds: float,
        query: dict[str, str | float | None],
    ) -> bytes:
        target = "/" + "/".join(quote(segment, safe="") for segment in segments)
        if asked := {name: value for name, value in query.items() if value is not None}:
            target += "?" + urlencode(asked)
        connection = _UnixConnection(self.path, ANSWER_SECONDS + seconds)
        try:
            connection.request(method, target, body, {"Content-Type": "application/json"} if body is not None else {})
            response = connection.getresponse()
            answer = response.read()
        except TimeoutError as error:
            raise UnreachableError(
                f"the daemon on {self.path} does not answer", "see its log, and whether it has processor time"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise _unreachable(self.path, error) from error
        finally:
            connection.close()
        if response.status != 200:
            raise _refused(response.status, answer)
        return answer


class _UnixConnection(http.client.HTTPConnection):
    """An HTTP connection over a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket's path instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _unreachable(path: str, error: Exception) -> UnreachableError:
    code = error.errno if isinstance(error, OSError) else None
    if code == errno.ENOENT:
        return UnreachableError(
            f"there is no control socket {path}",
            "start the daemon (systemctl start nodeplane), or name its socket with --socket or NODEPLANE_SOCKET",
        )
    if code == errno.ECONNREFUSED:
        return UnreachableError(f"nobody listens on {path}", "start the daemon: systemctl start nodeplane")
    if code in (errno.EACCES, errno.EPERM):
        return UnreachableError(
            f"no permission for {path}", "use sudo, or let the operator set control.allow_users or control.allow_groups"
        )
    if isinstance(error, ConnectionError | http.client.HTTPException):
        return UnreachableError("the daemon ended before it answered", "see its log: journalctl -u nodeplane")
    return UnreachableError(f"cannot use {path}: {error}", "name the daemon's socket with --socket or NODEPLANE_SOCKET")


def _refused(status: int, answer: bytes) -> RefusedError:
    try:
        problem: dict[str, Any] = json.loads(answer)
        mistakes = tuple(Mistake(row["path"], row["reason"]) for row in problem["mistakes"])
        return RefusedError(status, problem["error"], problem["hint"], mistakes)
    except (ValueError, KeyError, TypeError):
        return RefusedError(status, f"the daemon answered with status {status}", "is it a nodeplane daemon?")
