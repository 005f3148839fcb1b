"""The measuring client's frames, by scapy."""

from __future__ import annotations

from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from bench import dhcp_frames

MAC = "02:00:00:00:00:05"


def test_a_discover_is_what_a_guest_sends() -> None:
    frame = Ether(dhcp_frames.broadcast(dhcp_frames.message(dhcp_frames.DISCOVER, MAC, 7), MAC))
    assert (frame.dst, frame.src) == ("ff:ff:ff:ff:ff:ff", MAC)
    checksum = frame[IP].chksum
    del frame[IP].chksum
    assert Ether(bytes(frame))[IP].chksum == checksum
    assert (frame[UDP].sport, frame[UDP].dport, frame[UDP].len) == (68, 67, 308)
    assert (frame[BOOTP].xid, frame[BOOTP].chaddr[:6]) == (7, bytes.fromhex("020000000005"))
    assert ("message-type", 1) in frame[DHCP].options


def test_a_request_names_address_and_server() -> None:
    payload = dhcp_frames.message(dhcp_frames.REQUEST, MAC, 7, address="10.0.0.5", server="169.254.169.254")
    options = BOOTP(payload)[DHCP].options
    assert ("requested_addr", "10.0.0.5") in options
    assert ("server_id", "169.254.169.254") in options


def test_a_relayed_message_carries_its_relay() -> None:
    bootp = BOOTP(dhcp_frames.message(dhcp_frames.DISCOVER, MAC, 7, giaddr="10.64.255.254"))
    assert (bootp.giaddr, bootp.hops) == ("10.64.255.254", 1)


def test_an_answer_is_taken_apart() -> None:
    offer = (Ether(dst=MAC, src="02:00:00:00:00:01") / IP(src="10.0.0.1", dst="10.0.0.5") / UDP(sport=67, dport=68)
             / BOOTP(op=2, xid=7, yiaddr="10.0.0.5", chaddr=bytes.fromhex("020000000005"))
             / DHCP(options=[("message-type", "offer"), ("server_id", "169.254.169.254"), "end"]))  # fmt: skip
    assert dhcp_frames.reply_frame(bytes(offer)) == dhcp_frames.Reply(
        dhcp_frames.OFFER, 7, "10.0.0.5", MAC, "169.254.169.254", "02:00:00:00:00:01"
    )


def test_other_frames_are_no_answers() -> None:
    discover = dhcp_frames.broadcast(dhcp_frames.message(dhcp_frames.DISCOVER, MAC, 7), MAC)
    for frame in (discover, b"", bytes(14), bytes(400)):
        assert dhcp_frames.reply_frame(frame) is None
