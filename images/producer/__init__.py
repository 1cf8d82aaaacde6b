"""The producer: finds new inputs and publishes a message for each."""
