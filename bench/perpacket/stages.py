"""The batch stages that batch-sizes and flows put side by side."""

from __future__ import annotations

from bench.cases.decap import STAGE as DECAP
from bench.cases.encap import STAGE as ENCAP
from bench.cases.five_tuple import STAGE as FIVE_TUPLE
from bench.perpacket.suite import Stage

STAGES: dict[str, Stage] = {"encap": ENCAP, "decap": DECAP, "five-tuple": FIVE_TUPLE}
