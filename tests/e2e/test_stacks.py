"""The names that a stack's module makes of tfvars are those that Terraform makes."""

from __future__ import annotations

from refinerctl.stacks.refiner import STACK
from refinerctl.terraform.hcl import load_values, variable_defaults
from tests.e2e.project import Project


def test_names_from_tfvars_equal_terraforms_outputs(running: Project) -> None:
    outputs = running.run("outputs", "--output", "json").json()
    terraform = running.folder / "terraform"
    defaults = variable_defaults(terraform / "stacks" / "refiner")
    values = {**defaults, **load_values(terraform / "environments" / "local" / "refiner.tfvars")}
    assert STACK.pipeline is not None
    assert STACK.pipeline_of_outputs is not None

    from_values = STACK.pipeline(STACK.settings, values)
    from_outputs = STACK.pipeline_of_outputs(outputs)

    assert from_values.stages == from_outputs.stages
    assert from_values.components == from_outputs.components
    assert from_values.edges == from_outputs.edges
    for stage in from_outputs.stages:
        assert stage.queue is not None
        assert stage.recorded["queue_arn"].endswith(f":{stage.queue.name}")
