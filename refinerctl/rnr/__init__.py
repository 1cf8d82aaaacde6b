"""What only a stack with a broker, a service and scheduled functions has: run, workers, rotation, bucket policy."""

STACK = "rnr"  # of these commands, unless --stack is given
