"""`_flowcache_c`, compiled for the avx2 level."""

include "_flowcache_c.pyx"
