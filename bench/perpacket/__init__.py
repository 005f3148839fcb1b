"""What the per-packet cases share: packets, rungs, and the clock."""
