"""Where options go when they do not fit the options field (RFC 2131 section 4.1, option 52)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

from dataplane.dhcp.constants import OVERLOAD, OVERLOAD_FILE, OVERLOAD_SNAME

FILE_ROOM: Final = 127
SNAME_ROOM: Final = 63
"""Bytes of an overloaded field without its END."""
_OVERLOAD_BYTES: Final = 3

Item = tuple[int, bytes]
"""An option's code and its encoded form (code, length, value; split if long)."""


class Layout(NamedTuple):
    """Options by field, none of them with END."""

    options: bytes
    """With option 52 first if another field is used."""
    file: bytes
    sname: bytes
    dropped: tuple[int, ...]
    """Codes of the options that found no place, in their order."""


def lay_out(
    items: Sequence[Item], kept: Collection[int], room: int, *, file_room: int = 0, sname_room: int = 0
) -> Layout:
    """Put `items`, which are in order of preference, into the options field (`room` bytes), then `file`, then `sname`.

    A field with no room is in use for booting and stays as it is. Codes in `kept` find their place before all others;
    of the others the last ones are dropped, or one that is too long for what is left. No option is split over fields.
    """
    if sum(len(data) for _, data in items) <= room:
        return Layout(b"".join(data for _, data in items), b"", b"", ())
    if file_room or sname_room:
        room -= _OVERLOAD_BYTES
    free = [room, file_room, sname_room]
    fields: list[list[bytes]] = [[], [], []]
    dropped: list[int] = []
    owed = sum(len(data) for code, data in items if code in kept)
    first = 0  # the field that is being filled: earlier ones come last, so that the order survives if it can
    for code, data in items:
        if code in kept:
            owed -= len(data)
            candidates, reserved = (0, 1, 2), 0
        else:
            candidates, reserved = (*range(first, 3), *range(first)), owed
        for index in candidates:
            if len(data) <= free[index] - (reserved if index == 0 else 0):
                fields[index].append(data)
                free[index] -= len(data)
                if code not in kept:
                    first = max(first, index)
                break
        else:
            dropped.append(code)
    options, file, sname = (b"".join(parts) for parts in fields)
    used = (OVERLOAD_FILE if file else 0) | (OVERLOAD_SNAME if sname else 0)
    if used:
        options = bytes((OVERLOAD, 1, used)) + options
    return Layout(options, file, sname, tuple(dropped))
