"""What the images of stack rnr have in common."""
