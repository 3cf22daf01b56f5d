"""`python -m resnet_spec`: the command `resnet-spec`, where it is not on the path."""

from __future__ import annotations

import sys

from resnet_spec.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
