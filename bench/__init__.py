"""Questions with numbers, asked of nodeplane and of what it replaces, in one run: `python -m bench list`."""
