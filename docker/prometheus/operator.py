"""The rules as resources of the Prometheus Operator, one for each file of `rules/`:

.venv/bin/python -P docker/prometheus/operator.py > docker/k8s/rules.yaml
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

RULES = Path(__file__).parent / "rules"
HEADER = """\
# Made of docker/prometheus/rules by docker/prometheus/operator.py, which a test compares with it: edit the rules there.
# An operator that selects rules by label, as kube-prometheus-stack's does (`release: …`), needs that label here.
"""


def resource(file: Path) -> dict[str, Any]:
    """The PrometheusRule of one file of rules."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": f"searchbar-{file.stem}"},
        "spec": yaml.safe_load(file.read_text(encoding="utf-8")),
    }


def resources() -> str:
    """All of them as one YAML stream."""
    found = [resource(file) for file in sorted(RULES.glob("*.yml"))]
    return HEADER + yaml.safe_dump_all(found, sort_keys=False, allow_unicode=True, width=120)


if __name__ == "__main__":
    print(resources(), end="")
