"""From a spec to a plan with nothing left to decide, and all that is worked out from a plan."""
