"""The hooks of pre-commit: at a commit what .ci/run checks, with the same words; at a push tests as well."""

import re

from tests.checkouts import PROJECT


def test_a_commit_runs_checks_of_ci_and_a_push_the_quick_tests() -> None:
    hooks = (PROJECT / ".pre-commit-config.yaml").read_text(encoding="utf-8").split("- id: ")[1:]
    checks = re.findall(r'^check ".*?" (.*)$', (PROJECT / ".ci" / "run").read_text(encoding="utf-8"), re.M)
    entries = {re.findall(r"entry: (.*)", hook)[0]: "pre-push" in hook for hook in hooks}

    assert [entry for entry, at_push in entries.items() if at_push] == [
        ".venv/bin/python -m pytest -q tests/unit"
    ]
    at_commit = {entry for entry, at_push in entries.items() if not at_push}
    assert at_commit == {check for check in checks if check.startswith(".venv/bin/python ")}
