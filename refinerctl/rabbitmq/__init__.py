"""RabbitMQ: a broker's endpoint, its management API, and AMQP."""
