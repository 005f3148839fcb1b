"""Instance metadata for VMs with overlapping addresses: EC2 and OpenStack trees over HTTP/1.1."""
