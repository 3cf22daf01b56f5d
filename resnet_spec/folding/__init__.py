"""What is worked out once from a network's weights so that it predicts faster.

A session may import it, and whoever exports a network.
"""

from resnet_spec.folding.magnitudes import Bound, Segment, segments
from resnet_spec.folding.norms import Folded, fold_norms

__all__ = ["Bound", "Folded", "Segment", "fold_norms", "segments"]
