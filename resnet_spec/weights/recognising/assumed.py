"""What was assumed of a network since no tensor shows it, in one line, with what says otherwise.

Every command that computes with somebody's weights says it: other networks have the same tensors.
"""

from __future__ import annotations

from collections.abc import Sequence

from resnet_spec.weights.recognising.unseen import UnseenField, is_said


def assumed(found: Sequence[UnseenField], settings: Sequence[str] = ()) -> str:
    """Return the line on what is in doubt in `found`; "" where nothing is.

    settings: `key=value` texts; what they say is in no doubt.
    """
    said = [setting.partition("=")[0].strip() for setting in settings]
    doubtful = [it for it in found if it.is_in_doubt and not is_said(it.field, said)]
    if not doubtful:
        return ""
    first, *rest = sorted(doubtful, key=lambda it: it.source != "usual")
    items = [f"{first.text} (else --set {' '.join(first.remedy)})"]
    items += [f"{it.text} ({' '.join(it.remedy)})" for it in rest]
    # timm's resnetblur50 has the tensors of resnet50, and no spec has its pools.
    items += ["no blur pools"] if any(it.is_common for it in doubtful) else []
    return f"assumed: {', '.join(items)}"
