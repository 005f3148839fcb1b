"""The body of `_segment_c`, compiled for AVX2."""

include "_segment_c.pyx"
