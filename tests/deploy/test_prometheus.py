"""Prometheus' own tool on the rules, their unit tests and the dashboard's queries."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from app.settings import ROOT

PROMETHEUS = ROOT / "docker" / "prometheus"
RULES = sorted((PROMETHEUS / "rules").glob("*.yml"))
TESTS = sorted((PROMETHEUS / "tests").glob("*_test.yml"))
DASHBOARD = ROOT / "docker" / "grafana" / "dashboards" / "searchbar.json"


@pytest.fixture(scope="module")
def promtool() -> str:
    """Path of promtool, on the PATH or beside the interpreter."""
    found = shutil.which("promtool") or shutil.which("promtool", path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip("promtool is not installed: `make deploy-tools` gets it where apt-get is")
    return found


def passes(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_configuration_and_its_rules_are_valid(promtool: str) -> None:
    """`promtool check config` reads the scrape configuration and every rule file it names."""
    passes(promtool, "check", "config", str(PROMETHEUS / "prometheus.yml"))


@pytest.mark.parametrize("file", TESTS, ids=lambda file: file.stem)
def test_rules_do_what_their_unit_tests_say(promtool: str, file: Path) -> None:
    """`promtool test rules`: recorded values, alerts that fire and alerts that do not."""
    passes(promtool, "test", "rules", str(file))


def test_every_alert_is_seen_firing_and_silent() -> None:
    """Each alert has a unit test in which it fires and one in which it does not."""
    groups = [group for file in RULES for group in yaml.safe_load(file.read_text())["groups"]]
    alerts = {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}
    cases = [
        case for file in TESTS for test in yaml.safe_load(file.read_text())["tests"] for case in test.get("alert_rule_test", ())
    ]
    assert alerts == {case["alertname"] for case in cases if case["exp_alerts"]}
    assert alerts == {case["alertname"] for case in cases if not case["exp_alerts"]}


def test_the_dashboards_queries_are_valid(promtool: str, tmp_path: Path) -> None:
    """Every query of the dashboard parses as PromQL."""
    queries = [t["expr"] for panel in json.loads(DASHBOARD.read_text())["panels"] for t in panel.get("targets", ())]
    rules = [{"record": f"query_{number}", "expr": query} for number, query in enumerate(queries)]
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    passes(promtool, "check", "rules", str(file))
