"""The keys of guests' tokens, kept in the store and changed in time."""

from __future__ import annotations

import asyncio
import logging
import time

from dataplane.errors import StoreError
from dataplane.store import Store
from metadata import imds
from metadata.http1 import Request
from metadata.identity import Known
from metadata.responses import Response
from metadata.tokens import KeyRing, TokenKeys

log = logging.getLogger("nodeplane.tokens")

SECRET = "imds_keys"
"""Name of the key ring in the store."""
LOOK_SECONDS = 60.0
"""How often it is looked whether the keys are due."""


class TokenKeeper:
    """The token keys of this node.

    A key is in the store before the first token is made with it. Only the first key of a store that takes nothing is
    not: guests need tokens more than tokens need to survive a restart. It is stored as soon as there is room.
    """

    def __init__(self, store: Store, keys: TokenKeys) -> None:
        self.keys = keys
        self._store = store
        self._kept = True

    @classmethod
    async def open(cls, store: Store, now: float | None = None) -> TokenKeeper:
        """Load the keys; make some if there are none, or none that can be read. Raises StoreError if it cannot be read.

        `now` is the wall clock, of this moment if it is not given.
        """
        now = time.time() if now is None else now
        data = await store.load_secret(SECRET)
        ring = None
        if data is not None:
            try:
                ring = KeyRing.load(data)
            except ValueError:
                log.warning("tokens.keys_unreadable", extra={"fields": {}})
        if ring is None:
            keeper = cls(store, TokenKeys(KeyRing.fresh(now)))
            await keeper._keep()
            return keeper
        return cls(store, TokenKeys(ring))

    def gate(self, request: Request, known: Known, now: float) -> Response | None:
        """`metadata.server.Gate`: see `metadata.imds.gate`."""
        return imds.gate(request, known, self.keys, now)

    async def rotate(self, now: float) -> bool:
        """Change the key if it is due; whether it was changed. A store that fails leaves the key as it is."""
        if not self._kept:
            await self._keep()
        if not self.keys.ring.due(now):
            return False
        ring = self.keys.ring.rotated(now)
        try:
            await self._store.save_secret(SECRET, ring.export())
        except StoreError as error:
            log.warning("tokens.rotation_failed", extra={"fields": {"error": str(error)}})
            return False
        self.keys.install(ring)
        log.info("tokens.rotated", extra={"fields": {"keys": len(ring.keys)}})
        return True

    async def _keep(self) -> None:
        try:
            await self._store.save_secret(SECRET, self.keys.ring.export())
        except StoreError as error:
            self._kept = False
            log.warning("tokens.not_kept", extra={"fields": {"error": str(error)}})
        else:
            self._kept = True

    async def run(self) -> None:
        """Look after the keys until cancelled."""
        while True:
            await self.rotate(time.time())
            await asyncio.sleep(LOOK_SECONDS)
