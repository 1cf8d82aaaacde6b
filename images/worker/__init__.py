"""The worker of stack rnr: takes messages of the work queue, processes their inputs, writes outputs to S3."""
