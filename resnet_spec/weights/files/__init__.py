"""The kinds of weight files, one small module each, read and written with NumPy alone."""
