"""Policies, colour jitter and erasing: drawn as numbers, applied to uint8 pixels on the host.

Every framework is given the same bytes. What is done to a sample in an epoch is a function of
(seed, epoch, sample).
"""

from resnet_spec.data.augmenting.applying import box_of, changed, check_channels, choices_of

__all__ = ["box_of", "changed", "check_channels", "choices_of"]
