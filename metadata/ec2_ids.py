"""Ids and names in the forms of the EC2 tree."""

from __future__ import annotations

import hashlib
import re

from metadata.records import InstanceDocument

# Names and keys come from tenants: a line break in one would forge an entry of a listing. Python's splitlines, by which
# cloud-init reads a listing, breaks at all of these.
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def short_id(prefix: str, identifier: str) -> str:
    """An EC2 style id, `<prefix>-` and 8 hexadecimal digits, always the same for the same `identifier`.

    An identifier that has the form already is kept. Nova numbers instances and images in its database; without one,
    the digits are those of a hash.
    """
    if re.fullmatch(rf"{prefix}-[0-9a-f]+", identifier):
        return identifier
    return f"{prefix}-{hashlib.sha256(identifier.encode()).hexdigest()[:8]}"


def instance_id(document: InstanceDocument) -> str:
    """`instance-id` of the EC2 tree, derived from the uuid unless it is given."""
    return document.ec2_id or short_id("i", document.uuid)


def plain(text: str) -> str:
    """The text without control characters: it stays on its line."""
    return _CONTROLS.sub("", text)
