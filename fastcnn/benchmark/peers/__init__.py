"""Other libraries as contestants: the same network from the same graph and state."""
