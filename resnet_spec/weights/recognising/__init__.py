"""Which network a weight file holds, from the names and shapes of its tensors alone."""
