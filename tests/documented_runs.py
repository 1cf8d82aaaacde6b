"""Which of the documented commands tests/e2e/test_documentation.py runs, and why it does not run the others."""

from __future__ import annotations

import re

from tests.command_lines import Words

# What is found in a command's words → why it is not run there, and which test runs it; the first that fits counts.
NOT_RUN = {
    r"^--(help|version)$": "tests/unit/test_cli.py",
    r"^(demo|local (up|down))\b": "tests/e2e/test_demo.py; fixture `running` starts and ends its environment with them",
    r"^rnr\b|--stack rnr|--broker-url|\brnr-": "needs stack rnr: tests/e2e/test_rnr.py, tests/integration/rnr",
    r"^(sync|releases)\b": "needs a registry: tests/e2e/test_releases.py",
    r"^init\b": "writes a project: tests/unit/setup/test_init.py",
    r"^env new\b": "writes an environment of an account: tests/integration/setup/test_env_new.py",
    r"^image build\b": "needs a Docker engine, or a checkout: tests/unit/setup/test_image_build.py",
    r"--gitlab-(issue|note)\b": "needs GitLab: tests/integration/releases/test_gitlab_jobs.py",
    r"--stack access": "needs an account: tests/integration/access",
    r"^(drift|plan)\b": "takes long: tests/e2e/test_releases.py",
    r"^images\b": "needs images in ECR: tests/e2e/test_repositories.py, tests/integration/releases",
    r"--to v": "needs releases in ECR: tests/e2e/test_releases.py",
    r"^(deploy|apply|rollback|destroy|unlock)\b": "changes the environment: tests/e2e/test_releases.py",
    r"^add-prefix (?!.*--dry-run)|^remove-prefix\b": "changes the environment's values: tests/e2e/test_releases.py",
    r"^add-prefix .*my-container": "needs the image: tests/e2e/test_releases.py",
    r"^replay (?!.*--dry-run)": "processes inputs of other tests again: tests/e2e/test_pipeline.py",
    r"^dlq redrive (?!.*--dry-run)": "moves messages of other tests: tests/e2e/test_dlq_redrive.py",
    r"^dlq purge\b": "deletes messages of other tests: tests/e2e/test_dlq.py",
    r"--(follow|watch)\b": "does not end: tests/e2e/test_pipeline.py, tests/e2e/test_trace.py",
    r"^poll( --count.*)?$": "waits for, or reads, completions of other tests: tests/e2e/test_pipeline.py",
    r"--canary": "sends inputs through stages that fail on purpose here: tests/e2e/test_verify.py",
    r"^upload -": "reads standard input: tests/e2e/test_pipeline.py",
}
# They only read the environment, add inputs to it, or are documented with --dry-run.
RUN = re.compile(
    r"(upload|poll|inputs|replay|trace|logs|status|verify|report|prefixes|add-prefix|outputs|plan|drift|doctor|completion"
    r"|dlq (list|inspect|export|redrive)|local (status|env|logs)|env list)\b"
)


def reason_not_to_run(words: Words) -> str | None:
    """The reason; None for a command that is run. Raises LookupError for one that nobody has decided about."""
    line = " ".join(words[1:])
    if (reason := next((reason for found, reason in NOT_RUN.items() if re.search(found, line)), None)) is not None:
        return reason
    if RUN.match(line) is None:
        raise LookupError(f"decide in tests/documented_runs.py whether this is run: {line}")
    return None
