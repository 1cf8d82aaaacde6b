"""`report`: one HTML page about what a pipeline did, and failed to do."""
