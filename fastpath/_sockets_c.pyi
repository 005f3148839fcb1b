import select
from collections.abc import Sequence

MOST: int

def receive_each(epoll: select.epoll, scratch: bytearray, size: int) -> list[tuple[int, bytes]]: ...
def send_each(descriptors: Sequence[int], messages: Sequence[bytes]) -> list[int]: ...
