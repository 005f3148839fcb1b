"""`_vxlan_c`, built for avx2."""

include "_vxlan_c.pyx"
