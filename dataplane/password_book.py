"""Guests' passwords, for the metadata service, out of the store."""

from __future__ import annotations

from dataplane.store import Store


class PasswordBook:
    """`metadata.backend.DurablePasswords` over a store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def load(self, instance: str) -> bytes:
        """See `metadata.passwords.PasswordStore`."""
        return self._store.password(instance)

    async def keep(self, instance: str, password: bytes) -> bool:
        """See `metadata.backend.DurablePasswords`. Raises StoreError: the guest gets 500 and tries again."""
        return await self._store.save_password(instance, password)
