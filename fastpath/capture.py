"""Capture files into batches and back, pcap and pcapng: compiled, or the plain twin."""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Iterator
from types import TracebackType
from typing import IO, TYPE_CHECKING, Literal, Self, cast

from fastpath._select import LEVEL
from fastpath.capture_errors import FAULTS, CaptureError

# Type checkers always see the plain twin; both have the same signatures (a test compares them).
if TYPE_CHECKING or LEVEL == "pure":
    from fastpath._capture_py import PCAP_HEADER, PCAPNG_HEADER, Records, records
else:
    from fastpath._capture_c import PCAP_HEADER, PCAPNG_HEADER, Records, records

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from fastpath.batch import Batch

__all__ = ["FAULTS", "CaptureError", "Reader", "Records", "Writer", "read", "write"]

Format = Literal["pcap", "pcapng"]


class Reader:
    """A capture file, read batch by batch; a context manager. See `fastpath._capture_py.Records` for the formats.

    `source` is a path, an open binary file, or the bytes themselves (any buffer). A regular file is mapped, not read:
    whoever makes it shorter meanwhile ends this process with SIGBUS. What cannot be mapped (a pipe) is read to its
    end at once.

    Raises OSError for a file that cannot be opened, CaptureError for one that begins as no capture.
    """

    def __init__(self, source: str | os.PathLike[str] | IO[bytes] | Buffer) -> None:
        self._mapped: mmap.mmap | None = None
        data: Buffer
        if isinstance(source, str | os.PathLike):
            with open(source, "rb") as file:
                data = self._map(file)
        elif hasattr(source, "read") and not isinstance(source, mmap.mmap):
            data = self._map(cast(IO[bytes], source))
        else:
            data = source
        try:
            self._records = Records(data)
        except BaseException:
            self._unmap()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def format(self) -> Format:
        """What the file is."""
        return "pcapng" if self._records.pcapng else "pcap"

    @property
    def skipped(self) -> int:
        """Packets passed over because their interface is not Ethernet."""
        return self._records.skipped

    @property
    def too_long(self) -> int:
        """Frames passed over because a slot has no room for them."""
        return self._records.too_long

    def fill(self, batch: Batch, times: Buffer | None = None) -> int:
        """Replace the packets of `batch` by the file's next ones; see `fastpath._capture_py.Records.fill`."""
        return self._records.fill(batch, times)

    def close(self) -> None:
        """Let the file go; may be called again."""
        self._records.close()
        self._unmap()

    def _map(self, file: IO[bytes]) -> Buffer:
        try:
            status = os.fstat(file.fileno())
        except OSError:  # no file of the system's: io.UnsupportedOperation
            return file.read()
        if not stat.S_ISREG(status.st_mode) or not status.st_size:
            return file.read()
        self._mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._mapped

    def _unmap(self) -> None:
        if self._mapped is not None:
            self._mapped.close()
            self._mapped = None


class Writer:
    """A capture file that batches are written to; a context manager.

    `target` is a path, which is replaced, or a binary file, which is not closed. Little-endian, Ethernet, times in
    nanoseconds; pcap keeps 32 bits of seconds. Raises OSError as writing does, ValueError for another format.
    """

    def __init__(self, target: str | os.PathLike[str] | IO[bytes], format: Format = "pcapng") -> None:
        if format not in ("pcap", "pcapng"):
            raise ValueError("the format is pcap or pcapng")
        self._pcapng = format == "pcapng"
        self._own = isinstance(target, str | os.PathLike)
        self._file: IO[bytes] = open(target, "wb") if isinstance(target, str | os.PathLike) else target  # noqa: SIM115
        try:
            self._file.write(PCAPNG_HEADER if self._pcapng else PCAP_HEADER)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def write(self, batch: Batch, times: Buffer | None = None) -> None:
        """Write the packets that go on (verdict 0); see `fastpath._capture_py.records` for `times`."""
        self._file.write(records(batch, times, self._pcapng))

    def close(self) -> None:
        """Close the file if it was opened here; may be called again."""
        if self._own:
            self._file.close()


def read(
    source: str | os.PathLike[str] | IO[bytes] | Buffer, batch: Batch, times: Buffer | None = None
) -> Iterator[int]:
    """Fill `batch` (and `times`) with a capture's packets again and again; yield how many it holds each time.

    Raises what `Reader` and `Records.fill` raise.
    """
    with Reader(source) as reader:
        while count := reader.fill(batch, times):
            yield count


def write(
    target: str | os.PathLike[str] | IO[bytes], batch: Batch, times: Buffer | None = None, format: Format = "pcapng"
) -> None:
    """Write the packets of one batch to a new file."""
    with Writer(target, format) as writer:
        writer.write(batch, times)
