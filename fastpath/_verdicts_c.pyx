"""Turns what rules and connection tracking said into verdicts; `_verdicts_py` is the specification."""

from cpython.buffer cimport PyBUF_ND, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport int32_t, uint8_t, uint32_t

from fastpath._batch_c cimport Batch, batch_t
from fastpath._classify cimport CT_KIND

from fastpath.connections import UNTRACKED, Ct
from fastpath.flags import Flags
from fastpath.reasons import Reason

cdef enum:
    CT_INVALID = 4
    CT_LOOKUP = 16
    ALONE = 2

assert ALONE == UNTRACKED
assert CT_INVALID == Ct.INVALID and CT_LOOKUP == Ct.LOOKUP

cdef uint32_t NOT_IP = Flags.NOT_IP
cdef uint32_t DENIED = Reason.DENIED
cdef uint32_t TAKEN_FOR_INVALID = Reason.CT_INVALID


cdef uint32_t run(
    batch_t *b, const uint8_t *allowed, Py_ssize_t size, bint default, bint invalid, bint other
) noexcept nogil:
    cdef uint32_t i, ct, kind, passed = 0, others = 0
    cdef int32_t rule
    cdef bint good, alone
    # Mostly all packets are of known connections: kinds 1 to 3, and nothing is asked.
    for i in range(b.count):
        others |= b.verdict[i] | (b.ct[i] & (4 | CT_LOOKUP)) | ((b.ct[i] & CT_KIND) - 1) >> 31
    if not others:
        return b.count
    for i in range(b.count):
        if b.verdict[i]:
            continue
        ct, rule = b.ct[i], b.rule[i]
        kind = ct & CT_KIND
        alone = 0 <= rule < size and allowed[rule] == ALONE
        if kind == CT_INVALID and not invalid and not alone:
            b.verdict[i] = TAKEN_FOR_INVALID
            continue
        if kind != 0 and kind != CT_INVALID and not ct & CT_LOOKUP:
            passed += 1
            continue
        if rule >= 0:
            good = allowed == NULL or (rule < size and allowed[rule] != 0)
        else:
            good = other if b.flags[i] & NOT_IP else default
        passed += good
        if not good:
            b.verdict[i] = DENIED
        elif alone:
            b.ct[i] = ct & ~<uint32_t> CT_LOOKUP
    return passed


def permit(Batch batch not None, allowed=None, *, bint default=False, bint invalid=False, bint other=False):
    """See `fastpath._verdicts_py.permit`."""
    cdef Py_buffer view
    cdef uint32_t passed
    cdef uint8_t nothing = 0
    view.buf, view.len = NULL, 0
    if allowed is not None:
        try:
            PyObject_GetBuffer(allowed, &view, PyBUF_ND)
        except BufferError as error:
            raise ValueError("allowed: one byte for each rule") from error
    try:
        if allowed is not None and (view.itemsize != 1 or view.ndim != 1):
            raise ValueError("allowed: one byte for each rule")
        if allowed is not None and view.buf == NULL:
            view.buf = &nothing
        batch.enter()
        try:
            with nogil:
                passed = run(&batch.b, <const uint8_t *> view.buf, view.len, default, invalid, other)
        finally:
            batch.leave()
    finally:
        if allowed is not None:
            PyBuffer_Release(&view)
    return passed
