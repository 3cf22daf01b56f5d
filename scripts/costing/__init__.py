"""What scripts/overhead.py is made of."""
