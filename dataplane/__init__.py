"""The per-node service: model, store, reconcile loop, DHCP server, control API and command line."""

__version__ = "0.1.0"
