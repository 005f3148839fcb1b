"""`_flowcache_c`, compiled for the avx512 level."""

include "_flowcache_c.pyx"
