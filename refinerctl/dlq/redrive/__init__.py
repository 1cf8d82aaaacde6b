"""`dlq redrive`: messages of a dead-letter queue are sent again; docs/architecture.md explains how."""
