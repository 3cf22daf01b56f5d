"""Speed: backends and other people's networks, timed in turns, each in a process of its own."""
