"""`_classify_c`, compiled for the avx512 level."""

include "_classify_c.pyx"
