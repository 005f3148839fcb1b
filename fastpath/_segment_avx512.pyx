"""The body of `_segment_c`, compiled for AVX-512."""

include "_segment_c.pyx"
