"""From a request to a run, and the run itself: training, evaluation, and what is kept of them."""
