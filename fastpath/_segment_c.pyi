from typing_extensions import Buffer

from fastpath.batch import Batch

def segment(source: Batch, target: Batch, size: int | Buffer, first: int = 0) -> int: ...
def coalesce(
    source: Batch,
    target: Batch,
    sizes: Buffer | None = None,
    first: int = 0,
    udp: bool = False,
    partial: bool = False,
) -> int: ...
