"""Registries on 127.0.0.1 for tests of `refinerctl sync`: real ones, faulty ways to them, and images to put there."""
