"""`_classify_c`, compiled for the avx2 level."""

include "_classify_c.pyx"
