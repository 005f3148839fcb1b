"""DHCP without I/O: wire codec, options, reply templates and the server core (RFC 2131, RFC 2132)."""
