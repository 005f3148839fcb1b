"""Guests' passwords, for the metadata service, out of the store."""

from __future__ import annotations

import logging
from collections.abc import Callable

from dataplane.errors import StoreError
from dataplane.store import Store
from metadata.backend import NotKeptError

log = logging.getLogger("nodeplane.metadata")


class PasswordBook:
    """`metadata.backend.DurablePasswords` over a store."""

    def __init__(self, store: Store, followed: Callable[[], int]) -> None:
        """`followed` gives the position of the store that the model of the callers has been brought to."""
        self._store = store
        self._followed = followed

    def load(self, instance: str) -> bytes:
        """See `metadata.passwords.PasswordStore`."""
        return self._store.password(instance)

    def moment(self) -> int:
        """See `metadata.backend.DurablePasswords`."""
        return self._followed()

    async def keep(self, instance: str, password: bytes, moment: int) -> bool:
        """See `metadata.backend.DurablePasswords`."""
        try:
            return await self._store.save_password(instance, password, moment)
        except StoreError as error:
            log.error("passwords.not_kept", extra={"fields": {"instance": instance, "error": str(error)}})
            raise NotKeptError from error
