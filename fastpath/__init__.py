"""Packets as bytes and integers: checksums and framing, compiled with Cython, each with a plain-Python twin.

Imports nothing of the other packages. `NODEPLANE_FASTPATH=pure` takes the plain twins, `baseline` insists on the
compiled modules; without the variable the compiled modules are used when they are built. `LEVEL` tells which it is.
"""

from fastpath._select import LEVEL

__all__ = ["LEVEL"]
