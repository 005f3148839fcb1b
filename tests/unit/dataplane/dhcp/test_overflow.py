from __future__ import annotations

from dataplane.dhcp.overflow import FILE_ROOM, SNAME_ROOM, Item, lay_out


def item(code: int, length: int) -> Item:
    """An option that takes `length` bytes in all."""
    return code, bytes((code, length - 2)) + bytes(length - 2)


def codes(field: bytes) -> list[int]:
    found, at = [], 0
    while at < len(field):
        found.append(field[at])
        at += 2 + field[at + 1]
    return found


def test_what_fits_stays_in_the_options_field() -> None:
    layout = lay_out([item(53, 3), item(3, 6)], {53}, 9, file_room=FILE_ROOM, sname_room=SNAME_ROOM)
    assert codes(layout.options) == [53, 3]
    assert layout[1:] == (b"", b"", ())


def test_options_then_file_then_sname_in_order() -> None:
    items = [item(53, 3), item(1, 40), item(2, 100), item(3, 20), item(4, 60), item(5, 3)]
    layout = lay_out(items, {53}, 50, file_room=FILE_ROOM, sname_room=SNAME_ROOM)
    assert codes(layout.options) == [52, 53, 1]
    assert layout.options[2] == 3
    assert codes(layout.file) == [2, 3]
    assert codes(layout.sname) == [4, 5]
    assert layout.dropped == ()
    assert len(layout.options) <= 50


def test_only_file() -> None:
    layout = lay_out([item(53, 3), item(1, 40), item(2, 100)], {53}, 50, file_room=FILE_ROOM)
    assert (layout.options[:3], codes(layout.file), layout.sname) == (b"\x34\1\1", [2], b"")


def test_only_sname() -> None:
    layout = lay_out([item(53, 3), item(1, 40), item(2, 60)], {53}, 50, sname_room=SNAME_ROOM)
    assert (layout.options[:3], layout.file, codes(layout.sname)) == (b"\x34\1\2", b"", [2])


def test_the_tail_is_dropped() -> None:
    layout = lay_out([item(53, 3), *(item(code, 20) for code in range(1, 6))], {53}, 45)
    assert codes(layout.options) == [53, 1, 2]
    assert layout.dropped == (3, 4, 5)


def test_an_option_that_is_too_long_does_not_stop_the_others() -> None:
    layout = lay_out([item(53, 3), item(121, 200), item(6, 10)], {53}, 50, file_room=FILE_ROOM)
    assert codes(layout.options) == [53, 6]
    assert layout.dropped == (121,)


def test_kept_options_beat_earlier_ones() -> None:
    layout = lay_out([item(53, 3), item(12, 40), item(51, 6), item(54, 6)], {53, 51, 54}, 50)
    assert codes(layout.options) == [53, 51, 54]
    assert layout.dropped == (12,)


def test_a_kept_option_may_move_to_another_field() -> None:
    layout = lay_out([item(53, 3), item(61, 100)], {53, 61}, 50, file_room=FILE_ROOM)
    assert codes(layout.file) == [61]


def test_a_small_option_is_not_lost_for_the_sake_of_the_order() -> None:
    layout = lay_out([item(53, 3), item(1, 60), item(2, 60), item(3, 20)], {53}, 40, file_room=FILE_ROOM)
    assert codes(layout.file) == [1, 2]
    assert codes(layout.options) == [52, 53, 3]
