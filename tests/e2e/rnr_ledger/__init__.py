"""Stack rnr's images as processes, with real RabbitMQ and Redis, under faults: what became of each input."""
