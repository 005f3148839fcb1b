"""What a DHCP packet and a metadata request cost without a kernel."""

from __future__ import annotations

import itertools
import json

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench import dhcp_frames
from bench.documents import ADDRESS, MAC, networks
from dataplane import documents, metadata_view, names
from dataplane.desired import Desired
from dataplane.dhcp.core import Dhcp4Core
from dataplane.dhcp.packet import Send
from dataplane.dhcp.policy import Policy, ServerIdentity
from dataplane.model import DesiredState
from metadata.records import InstanceDocument
from metadata.tree import InstanceTree, answer

SERVER = "169.254.169.254"
UNLIMITED = Policy(rate=0)


@pytest.fixture(scope="module")
def state() -> DesiredState:
    return documents.decode(networks(1, 1)[0])


@pytest.fixture
def core(state: DesiredState) -> Dhcp4Core:
    network = state.networks[0]
    made = Dhcp4Core(network, ServerIdentity(mac=names.service_mac(network.id)), UNLIMITED)
    made.set_port(state.ports[0], 0.0)
    return made


@pytest.mark.parametrize(
    ("kind", "wanted"), [(dhcp_frames.DISCOVER, dhcp_frames.OFFER), (dhcp_frames.REQUEST, dhcp_frames.ACK)]
)
def test_dhcp(benchmark: BenchmarkFixture, core: Dhcp4Core, kind: int, wanted: int) -> None:
    asked = (ADDRESS, SERVER) if kind == dhcp_frames.REQUEST else ("", "")
    frame = dhcp_frames.broadcast(dhcp_frames.message(kind, MAC, 7, address=asked[0], server=asked[1]), MAC)
    (sent,) = (output for output in core.receive(frame, 1.0) if isinstance(output, Send))
    reply = dhcp_frames.reply_frame(sent.frame)
    assert reply is not None
    assert (reply.kind, reply.address, reply.server) == (wanted, ADDRESS, SERVER)
    clock = itertools.count(2)
    benchmark(lambda: core.receive(frame, next(clock)))


@pytest.fixture
def document(state: DesiredState) -> InstanceDocument:
    desired = Desired()
    desired.apply(desired.stage(state))
    return metadata_view.document(desired, state.instances[0], metadata_view.Defaults(domain="novalocal"))


@pytest.mark.parametrize("path", ["/openstack/latest/network_data.json", "/latest/meta-data/local-ipv4"])
@pytest.mark.parametrize("ready", [False, True], ids=["rendered", "ready"])
def test_metadata(benchmark: BenchmarkFixture, document: InstanceDocument, path: str, ready: bool) -> None:
    target = path.encode()
    tree = InstanceTree(document)
    response = tree.answer("GET", target, 1e9)
    assert response.status == 200
    if path.endswith("json"):
        assert json.loads(response.body)["links"][0]["ethernet_mac_address"] == MAC
    else:
        assert response.body == ADDRESS.encode()
    if ready:
        benchmark(tree.answer, "GET", target, 1e9)
    else:
        benchmark(answer, document, "GET", target, 1e9)
