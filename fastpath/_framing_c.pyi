from fastpath.frame import Udp4

def udp4_frame(
    dst_mac: bytes,
    src_mac: bytes,
    src_ip: bytes,
    dst_ip: bytes,
    src_port: int,
    dst_port: int,
    payload: bytes,
    ttl: int = 64,
    ident: int = 0,
) -> bytes: ...
def parse_udp4(frame: bytes, check_udp: bool = True) -> Udp4: ...
