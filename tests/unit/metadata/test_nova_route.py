"""What goes upstream is made from the normalised path."""

from __future__ import annotations

import pytest

from metadata.nova_route import route


@pytest.mark.parametrize(
    ("target", "sent", "kind"),
    [
        (b"/", "/", "document"),
        (b"/latest/meta-data/", "/latest/meta-data", "document"),
        (b"/ec2/latest", "/latest", "document"),
        (b"/ec2/openstack", "/ec2/openstack", "document"),
        (b"/ec2/ec2", "/ec2/ec2", "document"),
        (b"//x", "/x", "document"),
        (b"/openstack/../latest//user-data?a=b&c", "/latest/user-data?a=b&c", "document"),
        (b"/openstack/latest/vendor_data2.json", "/openstack/latest/vendor_data2.json", "vendordata"),
        (b"/openstack/latest/%70assword/", "/openstack/latest/password", "password"),
        (b"/openstack/latest/password/x", "/openstack/latest/password/x", "password"),
        (b"/a%2f%2e%2e%2fb", "/b", "document"),
        (b"/%0d%0aX-Instance-ID:%20y", "/%0D%0AX-Instance-ID:%20y", "document"),
        (b"/x?\r\n \xff", "/x?%0D%0A%20%FF", "document"),
        (b"/%252e%252e/x", "/%252e%252e/x", "document"),
        (b"/@other:80/", "/@other:80", "document"),
        (b"/2019-10-01/user-data", "/latest/user-data", "document"),
        (b"/ec2/2021-03-23/meta-data/?x=2021-03-23", "/latest/meta-data?x=2021-03-23", "document"),
        (b"/2009-04-05", "/latest", "document"),
        (b"/2009-04-04/user-data", "/2009-04-04/user-data", "document"),
        (b"/2008-12-31/meta-data", "/2008-09-01/meta-data", "document"),
        (b"/1999-01-01/meta-data", "/1.0/meta-data", "document"),
        (b"/2021-02-30/meta-data", "/2021-02-30/meta-data", "document"),
        (b"/20210323/meta-data", "/20210323/meta-data", "document"),
        (b"/latest/2021-03-23", "/latest/2021-03-23", "document"),
        (b"/openstack/2021-03-23/user_data", "/openstack/2021-03-23/user_data", "document"),
    ],
)
def test_route(target: bytes, sent: str, kind: str) -> None:
    found = route(target)
    assert found is not None
    assert (found.target, found.kind) == (sent, kind)


@pytest.mark.parametrize("target", [b"/\xff", b"/nocloud/meta-data"])
def test_no_route(target: bytes) -> None:
    assert route(target) is None
