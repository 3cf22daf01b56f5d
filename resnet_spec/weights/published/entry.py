"""One set of published weights: where it is, whose names it has, and how its accuracy was measured.

The tables beside it are lists of these.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from resnet_spec.data.statistics import KNOWN, Statistics
from resnet_spec.data.views import View
from resnet_spec.describing.spec import Spec
from resnet_spec.describing.spec_files import load_spec
from resnet_spec.weights.naming import scheme
from resnet_spec.weights.naming.conventions import applied

HUB = "hf:"
"""An address on the Hugging Face hub begins so: `hf:OWNER/NAME/FILE`."""
IMAGENET = KNOWN["imagenet"]
HALF: Statistics = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
"""Images scaled to -1..1 (timm's IMAGENET_INCEPTION_MEAN and _STD)."""


@dataclass(frozen=True, slots=True)
class Published:
    """Weights that somebody published.

    name: `NETWORK.TAG`, as timm names weights. address: an https address, or `hf:OWNER/NAME/FILE`.
    names: the naming scheme of its tensors. view: how images are resized and cropped; `view.crop`
    is the network's input size. statistics: mean and deviation of images scaled to 0..1.
    top1, top5: published accuracy in percent, with that view; None where none is published.
    source: who says so. preset, settings: the network, where its name is no preset.
    """

    name: str
    address: str
    names: str
    view: View
    source: str
    top1: float | None = None
    top5: float | None = None
    statistics: Statistics = IMAGENET
    license: str = ""
    preset: str = ""
    settings: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """The name of the file."""
        return self.address.rpartition("/")[2]

    @property
    def sha256(self) -> str:
        """The first digits of the file's digest, which its name ends with; "" where none is known.

        This is the rule of torch.hub: `resnet50-0676ba61.pth` begins with 0676ba61.
        """
        found = re.search(r"-([0-9a-f]{8,64})\.", self.file)
        return found[1] if found else ""

    def spec(self) -> Spec:
        """Return the network, with what its project's code fixes, at the size it is evaluated."""
        mean, std = (str(list(values)) for values in self.statistics)
        images = [f"input.size={self.view.crop}", f"input.mean={mean}", f"input.std={std}"]
        base = load_spec(self.preset or self.name.partition(".")[0], self.settings)
        named = base.model_copy(update={"name": self.name.partition(".")[0]})
        return load_spec(applied(scheme(self.names), named), images)
