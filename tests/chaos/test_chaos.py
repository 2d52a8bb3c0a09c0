"""A few rounds of chaos; `make chaos n=1000` plays many."""

from __future__ import annotations

import pytest

from . import play, report

pytestmark = pytest.mark.slow

_ROUNDS = 12


def test_whatever_strikes_a_run_the_next_one_finishes_it() -> None:
    # One history for all: twelve rounds of one seed each would learn twelve.
    results = list(play.rounds(range(_ROUNDS)))
    if told := [report.violation(result) for result in results if result.violations]:
        pytest.fail("\n\n".join(told), pytrace=False)
