"""Looking at dead letters, writing them down, deleting them."""
