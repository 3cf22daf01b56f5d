"""Running means and variances after one step; passes that must not change them do not."""

from __future__ import annotations

import numpy as np
import pytest
from pairs import Pair, cells_of_few


def test_statistics(pair: Pair) -> None:
    pair.check("statistics")


@pytest.mark.parametrize("of_few", cells_of_few(), ids=str)
def test_only_a_step_changes_the_state(of_few: Pair) -> None:
    got = of_few.got
    session, batch = got.session, got.setup.batches[0]
    session.gradients(batch)
    list(session.activations(batch, train=True))
    list(session.predict([batch]))
    after = session.state()
    assert all(np.array_equal(after[name], array) for name, array in got.state.items())
    names = [t.name for t in got.setup.plan.tensors if t.is_statistic]
    assert names and not any(np.array_equal(got.stepped[n], got.state[n]) for n in names)
