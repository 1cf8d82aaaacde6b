"""Room `dlq`: list, inspect, export, redrive and purge the messages of dead-letter queues."""
