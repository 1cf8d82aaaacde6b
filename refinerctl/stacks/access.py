"""Stack `access`: the IAM roles of the GitLab project's jobs. An administrator applies it, not a job."""

from __future__ import annotations

from refinerctl.stacks.base import Stack

STACK = Stack("access")
