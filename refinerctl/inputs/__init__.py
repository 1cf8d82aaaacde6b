"""Inputs of a pipeline: upload, follow, poll."""
