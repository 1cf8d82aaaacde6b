"""`report`: one HTML page about the work and the failures of a pipeline."""
