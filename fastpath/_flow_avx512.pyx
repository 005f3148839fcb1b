"""`_flow_c`, compiled for AVX-512."""

include "_flow_c.pyx"
