"""The flax backend."""
