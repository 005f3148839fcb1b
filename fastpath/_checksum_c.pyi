from typing_extensions import Buffer

BUILD: str
"""The build mode of setup.py: release, debug, trace or sanitize."""

def internet_checksum(data: Buffer, initial: int = 0) -> int: ...
def udp4_checksum(src_ip: bytes, dst_ip: bytes, src_port: int, dst_port: int, payload: bytes) -> int: ...
