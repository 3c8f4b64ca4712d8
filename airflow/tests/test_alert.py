"""The alert of a run that failed for good."""

from __future__ import annotations

import pytest
from conftest import KEY
from sns import TOPIC

pytestmark = [pytest.mark.docker, pytest.mark.usefixtures("database")]


def test_people_are_told_once_after_the_last_try(run, stack, sns):
    here = stack("--api-fault", "status:401")
    result = run({**here.for_the_dag(), **sns.for_the_dag()})
    assert (result.states, result.tries) == (("failed", "failed"), 2)
    [told] = sns.published
    assert (told["Subject"], told["TargetArn"]) == ("crypto_producer failed", TOPIC)
    assert "produce failed (try 2)" in told["Message"] and "'StatusCode': 2" in told["Message"]
    assert KEY not in str(told)


def test_nobody_is_told_of_a_run_that_was_skipped(run, stack, sns):
    here = stack("--api-fault", "credits:50")
    assert run({**here.for_the_dag(), **sns.for_the_dag()}).states == ("success", "skipped")
    assert sns.published == []
