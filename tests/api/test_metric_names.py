"""What the rules and the dashboard ask for is what is exported."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
import pytest
import yaml

from app.fakes import FakeTriton
from app.settings import ROOT

PROMETHEUS = ROOT / "docker" / "prometheus"
DASHBOARD = ROOT / "docker" / "grafana" / "dashboards" / "searchbar.json"
TRITON_METRICS = ROOT / "tests" / "deploy" / "triton_metrics.txt"
FROM_PROMETHEUS = {"up", "ALERTS"}
# Grouping clauses and label matchers name labels; what is left before no parenthesis is a metric or an operator.
LABELS = re.compile(r"\{[^}]*\}|\[[^\]]*\]|\b(?:by|on|group_left|without)\s*\([^)]*\)|\"[^\"]*\"")
NAME = re.compile(r"(?<![\w.:])([a-zA-Z_:][\w:]*)(?!\w*\s*\()\b")
OPERATORS = {"and", "or", "unless"}


def metrics(expr: str) -> set[str]:
    """Names of the metrics in a PromQL expression."""
    return set(NAME.findall(LABELS.sub(" ", expr))) - OPERATORS


@pytest.mark.parametrize(
    ("expr", "found"),
    [
        pytest.param('sum by (le) (rate(a_bucket{route=~"/v1/.*"}[5m])) / 1e6', {"a_bucket"}, id="function, matcher, range"),
        pytest.param("(sum(b) or vector(0)) / on () group_left () level:c:p90 > 0.025", {"b", "level:c:p90"}, id="operators"),
        pytest.param("max by (instance) (delta(d[15m])) > 0 and e > 14.4 * 0.001", {"d", "e"}, id="two"),
    ],
)
def test_metrics_are_found_in_expressions(expr: str, found: set[str]) -> None:
    """The reading of PromQL that the tests below stand on."""
    assert metrics(expr) == found


def rules() -> list[dict[str, str]]:
    files = sorted((PROMETHEUS / "rules").glob("*.yml"))
    return [rule for file in files for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]


def asked(source: Path) -> set[str]:
    if source.suffix == ".json":
        panels = json.loads(source.read_text())["panels"]
        return {name for panel in panels for target in panel.get("targets", ()) for name in metrics(target["expr"])}
    return {name for rule in rules() for name in metrics(rule["expr"])}


@pytest.mark.parametrize("source", [PROMETHEUS, DASHBOARD], ids=["rules", "dashboard"])
async def test_every_metric_asked_for_exists(client: httpx.AsyncClient, triton: FakeTriton, source: Path) -> None:
    """Rules and panels ask for nothing that neither the gateway, Triton nor a recording rule gives."""
    await client.post("/v1/search", json={"query": "halo"})
    triton.stop()
    assert (await client.post("/v1/search", json={"query": "billie jean"})).json()["degraded"]
    exported = set(re.findall(r"^(\w+)[{ ]", (await client.get("/metrics")).text, re.MULTILINE))
    of_triton = {line for line in TRITON_METRICS.read_text().splitlines() if not line.startswith("#")}
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    found = asked(source)
    assert len(found) > 10
    assert found <= exported | of_triton | recorded | FROM_PROMETHEUS
