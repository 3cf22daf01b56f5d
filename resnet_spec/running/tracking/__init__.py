"""Tracking: what a run reports to TensorBoard, MLflow and Weights & Biases by their own clients.

`tracker` says what a tracker is, a module each holds one, `choice` finds them by name, and
`forwarding` is the `fit.Watch` that feeds them, once an epoch and never inside the training loop.
"""
