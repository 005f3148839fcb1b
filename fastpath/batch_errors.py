"""What can go wrong with a batch at its Python edge; both twins raise these."""

from __future__ import annotations


class BatchError(Exception):
    """A batch cannot do what is asked."""


class FrameTooLongError(BatchError, ValueError):
    """A frame does not fit its slot; `index` is its place in what was given, `length` and `room` are bytes."""

    def __init__(self, index: int, length: int, room: int) -> None:
        self.index, self.length, self.room = index, length, room
        super().__init__(f"frame {index} has {length} bytes, a slot has room for {room} behind its headroom")


class BatchInUseError(BatchError, BufferError):
    """Another thread runs a stage on the batch, or somebody holds a view that closing would leave dangling."""
