"""Files in general: written whole or not at all, locked, never over what nobody gave up."""
