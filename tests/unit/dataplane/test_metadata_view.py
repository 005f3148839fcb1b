"""metadata_view and callers: the instance's own options over the node's, and what of the model a guest sees."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dataplane import documents, metadata_view
from dataplane.callers import Callers
from dataplane.desired import Desired
from dataplane.metadata_view import Defaults
from dataplane.model import Instance
from metadata.access import Access
from metadata.identity import Caller, Known
from metadata.tree import InstanceTree
from tests.unit.dataplane.states import UUID, document, instance, mistakes, network, of_instance, port

CALLER = Caller("blue", "fa:16:3e:00:00:05", "10.0.0.5")
STRICT = Access(http_endpoint=False, http_tokens_required=True, hop_limit=7, tags=True)


def desired(**more: Any) -> Desired:
    data = document(
        [network("blue")],
        [port("p1", device_id=f"{UUID}1", security_groups=["group-1"])],
        [instance(1, meta={"role": "db"}, **more)],
    )
    return Desired.of(documents.decode(data))


def the_instance(model: Desired) -> Instance:
    [found] = model.instances.values()
    return found


@pytest.mark.parametrize("defaults", [Access(), STRICT])
@pytest.mark.parametrize("options", [None, {}])
def test_without_options_the_node_decides(options: dict[str, Any] | None, defaults: Access) -> None:
    assert metadata_view.access(the_instance(desired(metadata_options=options)), defaults) == defaults


def test_the_instances_own_options_come_first() -> None:
    opened = {"http_endpoint": "enabled", "http_tokens": "optional", "http_put_response_hop_limit": 2,
              "instance_metadata_tags": "disabled"}  # fmt: skip
    found = metadata_view.access(the_instance(desired(metadata_options=opened)), STRICT)
    assert found == Access(hop_limit=2)
    closed = {"http_endpoint": "disabled", "http_tokens": "required", "instance_metadata_tags": "enabled"}
    found = metadata_view.access(the_instance(desired(metadata_options=closed)), Access(hop_limit=3))
    assert found == Access(http_endpoint=False, http_tokens_required=True, hop_limit=3, tags=True)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"http_put_response_hop_limit": 0}, "http_put_response_hop_limit: 0 is not between 1 and 64"),
        ({"http_put_response_hop_limit": 65}, "http_put_response_hop_limit: 65 is not between 1 and 64"),
        ({"http_tokens": "maybe"}, "http_tokens: "),
        ({"http_token": "required"}, 'http_token: unknown key, did you mean "http_tokens"?'),
    ],
)
def test_wrong_options(options: dict[str, Any], expected: str) -> None:
    [found] = mistakes(of_instance(metadata_options=options))
    assert found.startswith(f"instances[0].metadata_options.{expected}")


def test_tags_are_the_meta_of_instances_that_allow_it() -> None:
    model = desired()
    assert metadata_view.document(model, the_instance(model), Defaults(domain="")).tags is None
    shown = metadata_view.document(model, the_instance(model), Defaults(domain="", access=STRICT))
    assert shown.tags == {"role": "db"}


@pytest.mark.parametrize(
    ("region", "zone", "expected"),
    [("", "nova", "nova"), ("", "eu-1a", "eu-1"), ("", "eu-1", "eu-1"), ("", "", ""), ("north", "eu-1a", "north")],
)
def test_region(region: str, zone: str, expected: str) -> None:
    model = desired(availability_zone=zone)
    shown = metadata_view.document(model, the_instance(model), Defaults(domain="", region=region))
    assert shown.region == expected


def test_ids_of_links() -> None:
    model = desired()
    [link] = metadata_view.document(model, the_instance(model), Defaults(domain="")).links
    assert link.security_groups == ("group-1",)
    assert [subnet.id for subnet in link.subnets] == ["blue-subnet"]


def test_ports_of_other_projects_that_name_the_instance_are_not_shown_to_it() -> None:
    """Whoever makes a port can write any device_id: nobody puts links into somebody else's documents."""
    data = document(
        [network("blue"), network("green")],
        [
            port("p1", 5, device_id=f"{UUID}1", project_id="blue-project"),
            port("p2", 6, device_id=f"{UUID}1"),
            port("a-foreign", 7, "green", device_id=f"{UUID}1", project_id="green-project"),
        ],
        [instance(1)],
    )
    model = Desired.of(documents.decode(data))
    shown = metadata_view.document(model, the_instance(model), Defaults(domain=""))
    assert [link.port_id for link in shown.links] == ["p1", "p2"]
    tree = InstanceTree(shown)
    for path in (
        "/openstack/latest/network_data.json",
        "/latest/meta-data/network/interfaces/macs/",
        "/latest/meta-data/mac",
        "/latest/meta-data/local-ipv4",
        "/nocloud/network-config",
    ):
        body = tree.answer("GET", path.encode(), 2e9).content()
        assert body
        assert b"fa:16:3e:00:00:07" not in body
        assert b"10.0.0.7" not in body
        assert b"green" not in body


def test_a_caller_has_its_instances_access_and_learns_of_changes() -> None:
    model = desired(metadata_options={"http_tokens": "required"})
    callers = Callers(model, Defaults(domain=""))
    known = callers.lookup(CALLER)
    assert isinstance(known, Known)
    assert known.access == Access(http_tokens_required=True)
    assert callers.lookup(CALLER) is known

    callers.defaults = Defaults(domain="")  # the same again
    assert callers.lookup(CALLER) is known
    callers.defaults = Defaults(domain="", access=STRICT)
    known = callers.lookup(CALLER)
    assert isinstance(known, Known)
    assert known.access == STRICT

    changed = msgspec.structs.replace(the_instance(model), metadata_options=None)
    undo = model.apply(model.stage(documents.decode({"instances": [msgspec.to_builtins(changed)]}, against=model)))
    callers.defaults = Defaults(domain="")
    callers.forget((*undo.puts, changed))
    known = callers.lookup(CALLER)
    assert isinstance(known, Known)
    assert known.access == Access()
