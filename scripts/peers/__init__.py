"""What `benchmark.py` measures against: a module for each framework, imported when it is asked for.

Each offers PACKAGES, the peers' importable names, and `contenders(case, packages)`, the turns of
those that are installed. A contender's set-up is what its own project documents; none is tuned by
us, and none held back.
"""
