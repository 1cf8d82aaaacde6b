"""AWS services, one module each, on one shared session."""
