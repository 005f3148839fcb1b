"""Send raw Ethernet frames from this namespace: hexadecimal lines on standard input, to the device named."""

from __future__ import annotations

import socket
import sys

with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
    wire.bind((sys.argv[1], 0))
    for line in sys.stdin:
        wire.send(bytes.fromhex(line.strip()))
