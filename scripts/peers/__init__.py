"""What `benchmark.py` measures against: a module for each framework, imported when it is asked for.

Each offers `contenders(case)`, `versions()` and `missing()`. A contender's set-up is what its own
project documents; none is tuned by us, and none held back.
"""
