from collections.abc import Iterable
from typing import Final, Literal

from fastpath.reasons import Reason

CAPACITY: Final = 131072

class Vtep:
    def __init__(
        self,
        *,
        addresses: Iterable[str | bytes] = (),
        port: int = 4789,
        reserved: Literal["strict", "ignore", "count"] = "strict",
        zero_checksum6: bool = False,
        gbp: bool = False,
        gpe: bool = False,
        verify_checksum: bool = True,
        options: bool = False,
        any_vni: bool = False,
        capacity: int = ...,
    ) -> None: ...
    def __len__(self) -> int: ...
    def __contains__(self, vni: object) -> bool: ...
    @property
    def capacity(self) -> int: ...
    @property
    def counters(self) -> memoryview: ...
    @property
    def entries(self) -> int: ...
    def counts(self) -> dict[Reason, int]: ...
    def allow(self, vni: int, network: int, sources: Iterable[str | bytes] | None = None) -> None: ...
    def forbid(self, vni: int) -> None: ...
