"""The body of `_checksum_c`, compiled for AVX2."""

include "_checksum_c.pyx"
