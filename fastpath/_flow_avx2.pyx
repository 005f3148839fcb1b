"""`_flow_c`, compiled for AVX2."""

include "_flow_c.pyx"
