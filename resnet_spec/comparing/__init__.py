"""A grid of runs: networks by backends by seeds, run side by side, compared, and shown.

`grid` is the value, `cells` its runs, `running` their processes, `results` what they came to;
`statistics` compares, and `tables`, `drawing` and `page` show. Imports no deep-learning framework.
"""
