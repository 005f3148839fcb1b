"""What each thread may do: no more than its part.

Linux keeps capabilities by thread, and a new thread gets those of the one that starts it (capabilities(7)). So what is
taken from the loop's thread, once the namespace thread runs, nobody has but the namespace thread.

It is one address space all the same: this keeps a mistake in a parser from being obeyed by the kernel, not somebody
who runs code of his own in the process.
"""

from __future__ import annotations

import ctypes
import os
from enum import IntEnum

# linux/prctl.h, linux/capability.h
_PR_SET_NO_NEW_PRIVS = 38
_VERSION_3 = 0x20080522
_BITS = 32

_libc = ctypes.CDLL(None, use_errno=True)


class Capability(IntEnum):
    """Numbers of linux/capability.h."""

    DAC_OVERRIDE = 1
    DAC_READ_SEARCH = 2
    NET_BIND_SERVICE = 10
    NET_ADMIN = 12
    NET_RAW = 13
    SYS_ADMIN = 21


LOOP = frozenset((Capability.DAC_OVERRIDE, Capability.DAC_READ_SEARCH, Capability.NET_BIND_SERVICE))
"""Files and sockets of other users, where the operator leaves these two, and `metrics.listen` on a low port."""
NAMESPACES = LOOP | {Capability.NET_ADMIN, Capability.NET_RAW, Capability.SYS_ADMIN}
"""Devices and addresses; packet sockets; setns and mount."""


class _Header(ctypes.Structure):
    """struct __user_cap_header_struct"""

    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    """struct __user_cap_data_struct: 32 capabilities."""

    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def refuse_new() -> None:
    """Nothing that the calling thread, or one that it starts, ever executes gives it more. Raises OSError."""
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise _error()


def keep(capabilities: frozenset[Capability]) -> None:
    """Take from the calling thread, and those that it starts from now on, all but these; it gets none that it lacks.

    Raises OSError: a filter of system calls forbids it.
    """
    header, sets = _Header(_VERSION_3, 0), (_Sets * 2)()
    if _libc.capget(ctypes.byref(header), sets):
        raise _error()
    for word, found in enumerate(sets):
        wanted = sum(1 << (each - word * _BITS) for each in capabilities if each // _BITS == word)
        found.permitted &= wanted
        found.effective &= wanted
        found.inheritable = 0  # and with it the ambient set
    if _libc.capset(ctypes.byref(header), sets):
        raise _error()


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
