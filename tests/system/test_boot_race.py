"""A VM that starts before its port is known: held, and answered the moment the port appears."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from scripts import lab


def test_dhcp_is_answered_when_the_port_appears(
    patient: lab.Daemon, plug: Callable[..., lab.Vm], tmp_path: Path
) -> None:
    """One DISCOVER only: without the hold the client would fail."""
    daemon = patient
    document = lab.documents("blue")
    other = {**document["ports"][0], "id": "other-port", "mac_address": "02:00:00:00:00:77", "device": "tap-blue",
             "fixed_ips": [{"subnet_id": "blue-subnet", "ip_address": "10.0.0.77"}]}  # fmt: skip
    daemon.apply({**document, "ports": [other]})
    vm = plug("blue")
    lab.wait_until(lambda: daemon.status()["networks"][0]["plugged"] == 1, "device plugged")
    result: list[lab.Lease] = []
    client = threading.Thread(
        target=lambda: result.append(vm.dhcp(tmp_path, "-t", "1", "-T", "59", seconds=90.0)), name="one DISCOVER"
    )
    client.start()
    lab.wait_until(lambda: daemon.metrics().get("nodeplane_dhcp_held", 0) == 1, "DISCOVER held")
    daemon.apply({"ports": [{**document["ports"][0], "device": "tap-blue-late"}]})
    client.join(90)
    assert result
    assert result[0].address == "10.0.0.5"


def test_metadata_is_answered_when_the_port_appears(patient: lab.Daemon, plug: Callable[..., lab.Vm]) -> None:
    daemon = patient
    document = lab.documents("blue")
    other = {**document["ports"][0], "id": "other-port", "mac_address": "02:00:00:00:00:77",
             "fixed_ips": [{"subnet_id": "blue-subnet", "ip_address": "10.0.0.77"}]}  # fmt: skip
    daemon.apply({**document, "ports": [other]})
    vm = plug("blue")
    vm.set_address("10.0.0.5/24")
    answers: list[lab.Answer] = []
    client = threading.Thread(
        target=lambda: answers.append(vm.get("/latest/meta-data/hostname", seconds=90.0)), name="early GET"
    )
    client.start()
    lab.wait_until(lambda: daemon.metrics()["nodeplane_metadata_held"] == 1, "request held")
    daemon.apply({"ports": [{**document["ports"][0], "device": "tap-blue-late"}]})
    client.join(90)
    assert answers[0].status == 200
    assert answers[0].body == "blue-vm.novalocal"
    assert answers[0].seconds < 60  # when the hold would have ended
