"""The I/O edge: one module per outside system. Clients return models, never what an SDK returned."""
