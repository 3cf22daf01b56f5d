"""A program that has made torch's process group itself, and then joins: it stays the program's."""

from __future__ import annotations

import os

import numpy as np
import resnet_spec_torch.group
import torch.distributed as dist

from resnet_spec.errors import BackendError
from resnet_spec.group import Group
from resnet_spec.running.found_group import found_group

dist.init_process_group("gloo")
group = found_group(os.environ)
members = resnet_spec_torch.group.join(group)
assert members.gather(np.array([float(group.rank)])).ravel().tolist() == [0.0, 1.0]
members.leave()
assert dist.is_initialized()
try:
    resnet_spec_torch.group.join(Group(0, 5, group.address))
except BackendError as error:
    print(error)
dist.destroy_process_group()
