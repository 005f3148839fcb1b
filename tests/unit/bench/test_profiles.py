"""Profiles by name, and the packets that scapy makes of them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from scapy.utils import checksum

from bench.perpacket import malformed, outer, templates, verify
from bench.perpacket.profiles import FLOWS, IMIX, MOST_FLOWS, ZIPF, Profile, parse


@pytest.mark.parametrize(
    ("name", "profile"),
    [
        ("v4-udp-64", Profile()),
        ("v6-tcp-1400", Profile("v6", "tcp", "1400")),
        ("mixed-mixed-imix-1m-zipf", Profile("mixed", "mixed", "imix", MOST_FLOWS, ZIPF)),
        ("v4-tcp-512-4k", Profile("v4", "tcp", "512", 4000)),
        ("v4-udp-64-1", Profile(flows=1)),
        ("malformed", Profile(malformed=True)),
    ],
)
def test_a_name_says_it_all(name: str, profile: Profile) -> None:
    assert parse(name) == profile
    assert str(profile) == name


@pytest.mark.parametrize("name", ["", "v5-udp-64", "v4-udp", "v4-udp-64-0", "v4-udp-64-2m", "v4-udp-64-zipf-1m", "bad"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"profile is|at most"):
        parse(name)


def test_the_usual_flows_are_not_named() -> None:
    assert str(Profile(flows=FLOWS)) == "v4-udp-64"


def test_templates_are_sound_and_of_their_size(tmp_path: Path) -> None:
    stored = templates.templates("mixed-mixed-imix", 1, tmp_path)
    assert stored.groups == 4
    assert len(stored.templates) == 4 * templates.COPIES
    verify.sound([template.frame for template in stored.templates])
    first = stored.templates[: templates.COPIES]
    assert sorted(len(template.frame) for template in first) == sorted(IMIX)
    for template in stored.templates:
        assert template.frame[template.layer3] >> 4 == template.version


def test_templates_come_from_the_seed_and_are_kept(tmp_path: Path) -> None:
    made = templates.templates("v4-udp-64", 1, tmp_path)
    (path,) = tmp_path.iterdir()
    written = path.stat().st_mtime_ns
    assert templates.templates("v4-udp-64", 1, tmp_path) == made
    assert path.stat().st_mtime_ns == written
    assert templates.templates("v4-udp-64", 2, tmp_path).sha256 != made.sha256


@pytest.mark.parametrize("change", [b"", b'{"kind": 1}', None])
def test_a_file_that_does_not_fit_is_made_again(tmp_path: Path, change: bytes | None) -> None:
    made = templates.templates("v4-udp-64", 1, tmp_path)
    (path,) = tmp_path.iterdir()
    # None: the packets are no longer those of the hash.
    content = path.read_bytes()
    path.write_bytes(content.replace(made.sha256.encode(), b"0" * 64) if change is None else change)
    assert templates.templates("v4-udp-64", 1, tmp_path) == made
    assert path.read_bytes() == content


def test_malformed_packets_are_many_and_not_sound(tmp_path: Path) -> None:
    frames = [template.frame for template in templates.templates("malformed", 1, tmp_path).templates]
    assert b"" in frames
    assert len(set(frames)) > 100
    with pytest.raises(verify.WrongAnswerError):
        verify.sound(frames[10:])


def test_outer_headers_are_whole() -> None:
    for version, size in outer.LENGTH.items():
        assert len(outer.header(version)) == size
        frame = bytes(outer.layers(version, 50000) / b"x")
        assert len(outer.without_port(frame, version)) == len(frame) - 2
        with pytest.raises(ValueError, match="source port 80"):
            outer.without_port(bytes(outer.layers(version, 80)), version)


def test_wrong_outer_headers_are_each_different() -> None:
    frames = malformed.encapsulated(random.Random(1))
    assert len(set(frames)) == len(frames)
    # Some keep a right checksum, so that another check is the one that fails.
    whole = [frame[14:34] for frame in frames if len(frame) > 100]
    assert 3 < sum(checksum(header) == 0 for header in whole) < len(whole)
