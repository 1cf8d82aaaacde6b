"""The protection of a task whose job takes longer than the protection lasts."""

from __future__ import annotations

from rnr_common.log import Logger
from worker.protection import EXPIRES_MINUTES, RENEW_S, RETRY_S, TaskProtection
from worker.tests.environment import EcsAgent


class Clock:
    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def test_protection_is_renewed_while_a_job_runs_and_a_refusal_is_soon_asked_again(agent: EcsAgent) -> None:
    clock, lines = Clock(), list[str]()
    protection = TaskProtection({"ECS_AGENT_URI": agent.url}, Logger(lines.append), clock)
    assert protection.acquire()
    protection.renew()
    assert len(agent.states) == 1  # it is not time yet

    clock.seconds += RENEW_S
    protection.renew()
    assert [state["ExpiresInMinutes"] for state in agent.states] == [EXPIRES_MINUTES] * 2

    agent.refuse = True
    clock.seconds += RENEW_S
    protection.renew()
    protection.renew()
    assert len(agent.states) == 3
    assert "task protection not renewed" in lines[-1]

    agent.refuse = False
    clock.seconds += RETRY_S
    protection.renew()
    assert len(agent.states) == 4
    assert 2 * RENEW_S + RETRY_S < 60 * EXPIRES_MINUTES  # the one before had not expired

    protection.release()
    protection.renew()
    assert [state["ProtectionEnabled"] for state in agent.states[3:]] == [True, False]
