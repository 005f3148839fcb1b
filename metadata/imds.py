"""The gate before a caller's documents: AWS's IMDSv2, and the instance's `metadata_options`.

Pure. Status codes are those that AWS's service gives to real clients. Firecracker's header names
(`X-metadata-token`, `X-metadata-token-ttl-seconds`) stand for AWS's wherever those are missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from metadata.responses import Response, error
from metadata.tokens import MAX_TTL, TokenKeys
from metadata.tree import split_path

if TYPE_CHECKING:
    from metadata.http1 import Request
    from metadata.identity import Known

API = "imds"
"""Of this gate's answers, for counters."""
TOKEN_PATH = b"/latest/api/token"
TOKEN_HEADER = "X-aws-ec2-metadata-token"
TTL_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"
MMDS_TOKEN_HEADER = "X-metadata-token"
MMDS_TTL_HEADER = "X-metadata-token-ttl-seconds"

_TOKEN, _MMDS_TOKEN = TOKEN_HEADER.lower(), MMDS_TOKEN_HEADER.lower()
_TTL_NAMES = ((TTL_HEADER.lower(), TTL_HEADER), (MMDS_TTL_HEADER.lower(), MMDS_TTL_HEADER))
_FORWARDED = "x-forwarded-for"

_PLAIN = "text/plain"
_ALLOW = (("Allow", "OPTIONS, PUT"),)

_FORBIDDEN = error(403, API)
_UNAUTHORIZED = error(401, API)
_BAD_TTL = error(400, API)
_WRONG_TOKEN_PATH = Response(403, _PLAIN, b"", api=API)
_TOKEN_METHODS = error(405, API, _ALLOW)
_TOKEN_OPTIONS = Response(200, _PLAIN, b"", headers=_ALLOW, api=API)


def gate(request: Request, known: Known, keys: TokenKeys, now: float) -> Response | None:
    """The answer to a request that does not get through to the documents, or None; `now` is the wall clock.

    In this order: the endpoint is off: 403. A proxy passed the request on (X-Forwarded-For), which tells a token's
    holder from somebody behind it: 403 for every PUT, for every request with a token, and for all where tokens are
    required. The token path: PUT makes a token, other methods are 405, other spellings of it are 403 for PUT.
    Everything else: a token that is given must be valid, and must be given where that is required, or 401.
    """
    access = known.access
    if not access.http_endpoint:
        return _FORBIDDEN
    headers = request.headers
    putting = request.method == "PUT"
    token = headers.get(_TOKEN)
    if token is None:
        token = headers.get(_MMDS_TOKEN)
    required = access.http_tokens_required
    if _FORWARDED in headers and (putting or required or token is not None):
        return _FORBIDDEN
    if putting or request.target.startswith(TOKEN_PATH):
        answer = _token_path(request, known, keys, now)
        if answer is not None:
            return answer
    if token is None:
        return _UNAUTHORIZED if required else None
    return None if keys.valid(token, known.port_id, now) else _UNAUTHORIZED


def concerns(request: Request) -> bool:
    """Whether `gate` may stop the request even where the port's access has nothing to say about it (`Access.free`)."""
    headers = request.headers
    return (
        request.method == "PUT"
        or request.target.startswith(TOKEN_PATH)
        or _TOKEN in headers
        or _MMDS_TOKEN in headers
        or _FORWARDED in headers
    )


def _token_path(request: Request, known: Known, keys: TokenKeys, now: float) -> Response | None:
    """The answer to a request for a token, or None if it asks for something else."""
    if request.target.partition(b"?")[0] != TOKEN_PATH:
        elements = split_path(request.target) or ()
        wrong = request.method == "PUT" and elements[:1] == ("ec2",) and elements[2:] == ("api", "token")
        return _WRONG_TOKEN_PATH if wrong else None
    if request.method == "OPTIONS":
        return _TOKEN_OPTIONS
    if request.method != "PUT":
        return _TOKEN_METHODS
    for name, shown in _TTL_NAMES:
        text = request.headers.get(name)
        if text is None:
            continue
        ttl = int(text) if len(text) <= 5 and text.isascii() and text.isdigit() else 0
        if not 1 <= ttl <= MAX_TTL:
            return _BAD_TTL
        token = keys.make(known.port_id, ttl, now)
        return Response(
            200,
            _PLAIN,
            token.encode("ascii"),
            headers=((shown, str(ttl)),),
            api=API,
            lasting=False,
            hop_limit=known.access.hop_limit,
        )
    return _BAD_TTL
