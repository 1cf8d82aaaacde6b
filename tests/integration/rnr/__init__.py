"""The commands of stack rnr."""
