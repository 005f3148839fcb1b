"""What the classify case needs: rule files, traces, generated sets, the checker, the peer and the clocks."""
