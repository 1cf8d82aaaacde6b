"""Stack `registry`: the ECR repositories that the images of all stacks are in."""

from __future__ import annotations

from refinerctl.stacks.base import Stack

STACK = Stack("registry")
