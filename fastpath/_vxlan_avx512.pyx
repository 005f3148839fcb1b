"""`_vxlan_c`, built for avx512."""

include "_vxlan_c.pyx"
