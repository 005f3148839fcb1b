"""Turns what rules and connection tracking said into verdicts, in plain Python: specification of `_verdicts_c`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastpath.connections import UNTRACKED, Ct
from fastpath.flags import Flags
from fastpath.reasons import Reason

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from fastpath.batch import Batch


def permit(
    batch: Batch, allowed: Buffer | None = None, *, default: bool = False, invalid: bool = False, other: bool = False
) -> int:
    """Write a verdict into every packet that may not go on; return how many go on.

    Of packets that are not dropped:

    - those that `Conntrack.track` found INVALID are dropped for `CT_INVALID`; with `invalid`, the rules decide
    - those that it knows and that need no rules (no LOOKUP) go on
    - all others go as column `rule` says: `allowed` has one byte for each rule id, not 0: it goes on. Ids beyond its
      end do not, and where it is None all do. A packet that no rule matched goes on with `default`; one that is not
      IP, which no rule can match, with `other`. The verdict is `DENIED`.
    - where the byte is UNTRACKED, a packet goes on for itself, also if it is INVALID: LOOKUP is taken out of its `ct`,
      so that `Conntrack.commit` makes no connection of it

    Raises ValueError if `allowed` is not one byte each, BatchInUseError.
    """
    table = None if allowed is None else memoryview(allowed)
    if table is not None and (table.itemsize != 1 or table.ndim != 1 or not table.c_contiguous):
        raise ValueError("allowed: one byte for each rule")
    bytes_ = None if table is None else table.cast("B")
    passed = 0
    for i in range(batch.count):
        if batch.verdict[i]:
            continue
        ct, rule = batch.ct[i], batch.rule[i]
        kind = ct & Ct.KIND
        alone = bytes_ is not None and 0 <= rule < len(bytes_) and bytes_[rule] == UNTRACKED
        if kind == Ct.INVALID and not invalid and not alone:
            batch.verdict[i] = Reason.CT_INVALID
            continue
        if kind not in (Ct.NONE, Ct.INVALID) and not ct & Ct.LOOKUP:
            passed += 1
            continue
        if rule >= 0:
            good = bytes_ is None or (rule < len(bytes_) and bytes_[rule] != 0)
        else:
            good = other if batch.flags[i] & Flags.NOT_IP else default
        if good:
            passed += 1
            if alone:
                batch.ct[i] = ct & ~Ct.LOOKUP
        else:
            batch.verdict[i] = Reason.DENIED
    return passed
