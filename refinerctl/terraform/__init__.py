"""The terraform binary: root modules run with their data outside of the tree, plans and state read as models."""

from refinerctl.terraform.events import ApplyProgress, OnApply
from refinerctl.terraform.mirror import MIRROR_ROOTS, PROVIDER, find_provider_mirror
from refinerctl.terraform.runner import Terraform

__all__ = ["MIRROR_ROOTS", "PROVIDER", "ApplyProgress", "OnApply", "Terraform", "find_provider_mirror"]
