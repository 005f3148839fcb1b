"""The body of `_checksum_c`, compiled for AVX-512."""

include "_checksum_c.pyx"
