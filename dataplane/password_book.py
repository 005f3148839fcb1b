"""Guests' passwords, for the metadata service, out of the store."""

from __future__ import annotations

from collections.abc import Callable

from dataplane.store import Store


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
        """See `metadata.backend.DurablePasswords`. Raises StoreError: the guest gets 500 and tries again."""
        return await self._store.save_password(instance, password, moment)
