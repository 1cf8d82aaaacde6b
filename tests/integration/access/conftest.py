"""The roles of stack `access`, made once: Terraform takes seconds for them."""

from __future__ import annotations

import pytest

from tests.integration.access.roles import Roles, roles_of_terraform
from tests.needs import needs_terraform
from tests.policy_simulator import Simulate


@pytest.fixture(scope="session")
def roles(tmp_path_factory: pytest.TempPathFactory, simulate: Simulate) -> Roles:
    needs_terraform()
    return roles_of_terraform(tmp_path_factory.mktemp("roles"), simulate)
