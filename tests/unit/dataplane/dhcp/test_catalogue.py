from __future__ import annotations

from typing import get_args

from dataplane.dhcp.catalogue import BLANK_ALLOWED, BY_NAME, KINDS, OPTIONS, RESERVED, Kind
from dataplane.dhcp.options import _ENCODERS


def test_numbers_and_names_are_unique() -> None:
    names = [name for option in OPTIONS for name in option.names]
    assert len(names) == len(set(names)) == len(BY_NAME)
    assert len(OPTIONS) == len(KINDS)
    assert names == [name.lower() for name in names]


def test_every_kind_has_an_encoder_and_a_use() -> None:
    assert set(get_args(Kind)) == set(_ENCODERS) == set(KINDS.values())


def test_the_protocols_own_options_are_not_in_it() -> None:
    assert not RESERVED & set(KINDS)
    assert set(KINDS) >= BLANK_ALLOWED
