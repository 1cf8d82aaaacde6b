"""Operator command line for event-driven data pipelines on AWS."""

__version__ = "0.1.0"
