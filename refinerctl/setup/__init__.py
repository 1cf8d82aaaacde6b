"""Set-up: from the installed package to a project, its environments and its images."""
