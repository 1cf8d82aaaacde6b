"""What the commands of stack rnr are made of."""
