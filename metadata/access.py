"""What an instance's owner allows of its metadata: AWS's `metadata_options`."""

from __future__ import annotations

import msgspec


class Access(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The options of one instance; the defaults allow everything that an instance without options may do."""

    http_endpoint: bool = True
    """Off: every request is answered 403."""
    http_tokens_required: bool = False
    """On: a request without a valid token is answered 401."""
    hop_limit: int = 1
    """1 to 64: IP TTL, or IPv6 hop limit, of the answer that carries a token."""
    tags: bool = False
    """Whether `tags/instance` is there."""

    @property
    def free(self) -> bool:
        """Whether a request without a token is as good as one with it."""
        return self.http_endpoint and not self.http_tokens_required


OPEN = Access()
