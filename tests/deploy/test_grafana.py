"""The dashboard and what provisions it. Grafana itself is not run here."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import yaml

from app.settings import ROOT

GRAFANA = ROOT / "docker" / "grafana"
DASHBOARD = json.loads((GRAFANA / "dashboards" / "searchbar.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
SOURCE = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "prometheus.yml").read_text())["datasources"][0]


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_every_panel_says_what_it_shows(panel: dict[str, object]) -> None:
    """A title, a unit, a place in the grid, and queries with a legend, of the data source that is provisioned."""
    assert panel["title"] and panel["fieldConfig"]["defaults"]["unit"]  # type: ignore[index]
    place = panel["gridPos"]
    assert place["x"] + place["w"] <= 24 and place["h"] > 0  # type: ignore[index]
    assert panel["targets"]
    for query in panel["targets"]:  # type: ignore[attr-defined]
        assert query["expr"] and query["legendFormat"]
        assert query["datasource"]["uid"] == SOURCE["uid"]


def test_ids_and_titles_are_unique() -> None:
    """Grafana drops one of two panels with the same id, and readers mix up two with the same title."""
    for key in ("id", "title"):
        assert [value for value, count in Counter(panel[key] for panel in DASHBOARD["panels"]).items() if count > 1] == []
    for panel in PANELS:
        references = [query["refId"] for query in panel["targets"]]
        assert len(set(references)) == len(references)


def test_no_two_panels_overlap() -> None:
    """Each cell of the grid belongs to one panel."""
    cells = Counter(
        (x, y)
        for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    )
    assert set(cells.values()) == {1}


def test_the_provider_reads_the_folder_that_compose_mounts() -> None:
    """The dashboard's folder in the provider's configuration is where docker-compose.yml puts it."""
    provider = yaml.safe_load((GRAFANA / "provisioning" / "dashboards" / "searchbar.yml").read_text())["providers"][0]
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    assert f"./docker/grafana/dashboards:{provider['options']['path']}:ro" in compose["services"]["grafana"]["volumes"]
