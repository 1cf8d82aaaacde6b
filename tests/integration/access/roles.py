"""The roles of stack `access` as Terraform makes them, and what a simulator of IAM says of their requests."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from refinerctl.terraform.runner import Terraform
from tests.policy_simulator import Simulate

ROOT = Path(__file__).parents[3]
ACCOUNT = "000000000000"
PROVIDER = f"arn:aws:iam::{ACCOUNT}:oidc-provider/gitlab.com"
# Runs after the mocks of the stack's own test.
RUN = """
run "environment" {
}
"""

Document = dict[str, Any]


@dataclass(frozen=True)
class Roles:
    """Trust policies and permissions by role, and the permissions boundary."""

    trust: Mapping[str, Document]
    permissions: Mapping[str, list[Document]]
    boundary: Document
    simulate: Simulate

    def may(self, role: str, action: str, resource: str, context: Mapping[str, str] | None = None) -> bool:
        """Whether a role may do this."""
        return self._ask(role, action, resource, context or {}, self.permissions[role])

    def bounded_may(self, action: str, resource: str, context: Mapping[str, str] | None = None) -> bool:
        """Whether a role with this boundary may do this if its own policies allow everything."""
        everything = [{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}]
        bounds = {"permissionBoundaryPolicies": [{"name": "boundary", "policy": self.boundary}]}
        return self._ask("stack", action, resource, context or {}, everything, **bounds)

    def trusts(self, role: str, claims: Mapping[str, str], provider: str = PROVIDER) -> bool:
        """Whether a job with a token of these claims may assume the role."""
        arn = f"arn:aws:iam::{ACCOUNT}:role/ci-local-{role}"
        verdict = self.simulate(
            {
                "request": {
                    "principal": provider,
                    "action": "sts:AssumeRoleWithWebIdentity",
                    "resource": {"resource": arn, "accountId": ACCOUNT},
                    "contextVariables": {_key(f"gitlab.com:{name}"): value for name, value in claims.items()},
                },
                "identityPolicies": [],
                "resourcePolicy": json.loads(_key(json.dumps(self.trust[role]))),
            }
        )
        assert isinstance(verdict, bool), verdict
        return verdict

    def _ask(
        self, role: str, action: str, resource: str, context: Mapping[str, str], policies: list[Document], **more: Any
    ) -> bool:
        verdict = self.simulate(
            {
                "request": {
                    "principal": f"arn:aws:iam::{ACCOUNT}:role/{role}",
                    "action": action,
                    "resource": {"resource": resource, "accountId": ACCOUNT},
                    "contextVariables": dict(context),
                },
                "identityPolicies": [{"name": f"p{n}", "policy": policy} for n, policy in enumerate(policies)],
                **more,
            }
        )
        assert isinstance(verdict, bool), (action, resource, verdict)
        return verdict


def _key(text: str) -> str:
    """The simulator knows claims `aud` and `sub` of a few issuers only, Google's among them."""
    return text.replace("gitlab.com:aud", "accounts.google.com:aud").replace(
        "gitlab.com:sub", "accounts.google.com:sub"
    )


def roles_of_terraform(folder: Path, simulate: Simulate, *arguments: str) -> Roles:
    """The roles of environment `local`, of the root module with mocked AWS; `arguments` are further ones of a test."""
    shutil.copytree(ROOT / "terraform", folder / "terraform", symlinks=True)
    module = folder / "terraform" / "stacks" / "access"
    mocks = (module / "tftest" / "access.tftest.hcl").read_text().partition("\nvariables {")[0]
    (module / "tftest" / "environment.tftest.hcl").write_text(mocks + RUN)
    terraform = Terraform(
        module=module,
        data_dir=folder / "data",
        work_folder=folder / "work",
        log=folder / "terraform.log",
        environment={"AWS_EC2_METADATA_DISABLED": "true", "GOGC": "400"},
        embedded=True,
    )
    terraform.init("-backend=false", "-test-directory=tftest")
    values = folder / "terraform" / "environments" / "local" / "access.tfvars"
    only = ("-test-directory=tftest", "-filter=tftest/environment.tftest.hcl", f"-var-file={values}")
    done = terraform.run("test", "-json", "-verbose", *only, *arguments)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    states = [event["test_state"] for event in events if event["type"] == "test_state"]
    assert len(states) == 1, done.stdout[-3000:]
    (child,) = states[0]["root_module"]["child_modules"]
    return _roles(child["resources"], simulate)


def _roles(resources: list[dict[str, Any]], simulate: Simulate) -> Roles:
    def of(kind: str) -> dict[str, dict[str, Any]]:
        return {item.get("index", item["name"]): item["values"] for item in resources if item["type"] == kind}

    managed = {name: json.loads(policy["policy"]) for name, policy in of("aws_iam_policy").items()}
    inline = {name: json.loads(policy["policy"]) for name, policy in of("aws_iam_role_policy").items()}
    attached = [index.split(" ") for index in of("aws_iam_role_policy_attachment")]
    return Roles(
        trust={name: json.loads(role["assume_role_policy"]) for name, role in of("aws_iam_role").items()},
        permissions={
            name: [policy, *(managed[other] for role, other in attached if role == name)]
            for name, policy in inline.items()
        },
        boundary=managed["boundary"],
        simulate=simulate,
    )
