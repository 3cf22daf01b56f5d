"""What a person writes: networks, recipes and settings, read into frozen, checked values."""
