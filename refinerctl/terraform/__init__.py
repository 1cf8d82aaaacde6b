"""Terraform: root modules, their backends and states, plans, and the binary that runs them."""
