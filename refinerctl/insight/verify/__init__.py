"""Checks of a stack's components in AWS: whether an input would be processed, and whether one could be lost."""
