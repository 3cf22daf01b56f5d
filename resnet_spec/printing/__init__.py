"""How results look where they are printed: tables, cards, and what is being done meanwhile."""
