"""The Kubernetes resources: against the published schemas, against each other and against the application."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from app.api import router
from app.server import GRACE_S
from app.settings import ROOT, Settings

FOLDER = ROOT / "docker" / "k8s"
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text(encoding="utf-8"))
RESOURCES: list[dict[str, Any]] = [
    resource for file in KUSTOMIZATION["resources"] for resource in yaml.safe_load_all((FOLDER / file).read_text("utf-8"))
]
KUBERNETES = "1.31"  # among the versions that kubernetes-validate brings
TRITON_HEALTH = {"/v2/health/live", "/v2/health/ready"}


def named(resource: dict[str, Any]) -> str:
    return f"{resource['kind']}-{resource['metadata']['name']}"


def of_kind(kind: str) -> list[Any]:
    return [pytest.param(resource, id=named(resource)) for resource in RESOURCES if resource["kind"] == kind]


def pods() -> dict[str, dict[str, Any]]:
    """Pod templates by the name of their Deployment."""
    return {r["metadata"]["name"]: r["spec"]["template"] for r in RESOURCES if r["kind"] == "Deployment"}


def selected(labels: dict[str, str]) -> list[str]:
    """Names of the Deployments whose pods have these labels."""
    return [name for name, pod in pods().items() if labels.items() <= pod["metadata"]["labels"].items()]


def port_names(pod: str) -> set[str]:
    return {port["name"] for container in pods()[pod]["spec"]["containers"] for port in container["ports"]}


@pytest.mark.parametrize("resource", [pytest.param(r, id=named(r)) for r in RESOURCES if "coreos" not in r["apiVersion"]])
def test_resources_fit_the_schemas_of_kubernetes(resource: dict[str, Any]) -> None:
    """Kubernetes' own schemas, unknown fields refused. The operator's resources have none there."""
    kubernetes_validate.validate(resource, KUBERNETES, strict=True)


def test_a_wrong_field_is_noticed() -> None:
    """The validation above is able to fail."""
    wrong = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"selectors": {}}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, KUBERNETES, strict=True)


def test_kustomize_builds_it() -> None:
    """`kubectl kustomize` puts every resource into the namespace and names each image by registry and version."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run(["kubectl", "kustomize", str(FOLDER)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    built = list(yaml.safe_load_all(done.stdout))
    assert sorted(map(named, built)) == sorted(map(named, RESOURCES))
    assert {r["metadata"]["namespace"] for r in built if r["kind"] != "Namespace"} == {KUSTOMIZATION["namespace"]}
    images = {c["image"] for r in built if r["kind"] == "Deployment" for c in r["spec"]["template"]["spec"]["containers"]}
    assert all(re.search(r"/[\w-]+:\d+\.\d+\.\d+$", image) for image in images)


def test_every_image_is_one_that_compose_builds_and_has_a_version() -> None:
    """The kustomization pins each image, and its name is that of an image of docker-compose.yml."""
    pinned = {image["name"]: image["newTag"] for image in KUSTOMIZATION["images"]}
    assert {container["image"] for pod in pods().values() for container in pod["spec"]["containers"]} == set(pinned)
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    assert {f"{name}:{tag}" for name, tag in pinned.items()} <= {s["image"] for s in compose["services"].values()}


@pytest.mark.parametrize("deployment", of_kind("Deployment"))
def test_pods_are_confined_and_watched(deployment: dict[str, Any]) -> None:
    """Not root, read-only, no capabilities, resources set, every probe on a path that exists; volumes and mounts agree."""
    spec = deployment["spec"]["template"]["spec"]
    assert spec["securityContext"]["runAsNonRoot"] and not spec["automountServiceAccountToken"]
    paths = {route.path for route in router.routes} if deployment["metadata"]["name"] == "gateway" else TRITON_HEALTH
    for container in spec["containers"]:
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"]
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys() and "memory" in container["resources"]["limits"]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            ask = container[probe]["httpGet"]
            assert ask["path"] in paths and ask["port"] in {port["name"] for port in container["ports"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}


def test_probes_ask_the_right_question() -> None:
    """A gateway that waits for Triton is alive but not ready; restarting it would not help."""
    (container,) = pods()["gateway"]["spec"]["containers"]
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_the_gateway_has_time_to_drain() -> None:
    """It goes on answering after SIGTERM, and is not killed before what is under way then has had its time."""
    spec = pods()["gateway"]["spec"]
    (container,) = spec["containers"]
    drain_s = float({entry["name"]: entry["value"] for entry in container["env"]}["SEARCHBAR_DRAIN_S"])
    assert drain_s > 0 and "lifecycle" not in container
    assert spec["terminationGracePeriodSeconds"] >= drain_s + GRACE_S + 5


def test_triton_asks_for_a_gpu() -> None:
    """Requests and limits of an extended resource must be equal."""
    (container,) = pods()["triton"]["spec"]["containers"]
    assert container["resources"]["requests"]["nvidia.com/gpu"] == container["resources"]["limits"]["nvidia.com/gpu"] == 1


@pytest.mark.parametrize("service", of_kind("Service"))
def test_services_lead_to_their_pods(service: dict[str, Any]) -> None:
    """The selector matches the pods of the same name and each target port is one of theirs."""
    name = service["metadata"]["name"]
    assert selected(service["spec"]["selector"]) == [name]
    assert {port["targetPort"] for port in service["spec"]["ports"]} <= port_names(name)


def test_the_gateway_calls_tritons_headless_service() -> None:
    """SEARCHBAR_TRITON names a headless service and its gRPC port, and is a setting."""
    (container,) = pods()["gateway"]["spec"]["containers"]
    passed = {entry["name"]: entry["value"] for entry in container["env"]}
    host, port = passed["SEARCHBAR_TRITON"].removeprefix("dns:///").split(":")
    (service,) = (r for r in RESOURCES if r["kind"] == "Service" and r["metadata"]["name"] == host)
    assert service["spec"]["clusterIP"] == "None"
    assert {"name": "grpc", "port": int(port), "targetPort": "grpc"} in service["spec"]["ports"]
    known = {f"SEARCHBAR_{name.upper()}" for name in Settings.model_fields}
    assert {name for name in passed if name.startswith("SEARCHBAR_")} <= known


@pytest.mark.parametrize("budget", of_kind("PodDisruptionBudget"))
def test_budgets_leave_somebody_serving(budget: dict[str, Any]) -> None:
    """A budget selects its Deployment, which has more pods than may be away at once."""
    name = budget["metadata"]["name"]
    assert selected(budget["spec"]["selector"]["matchLabels"]) == [name]
    (replicas,) = (
        r["spec"][key]
        for r in RESOURCES
        for key in ("minReplicas", "replicas")
        if key in r.get("spec", ()) and r["metadata"]["name"] == name
    )
    assert replicas > budget["spec"]["maxUnavailable"]


def test_triton_is_reached_by_the_gateway_alone() -> None:
    """gRPC is open to the gateway's pods, metrics to Prometheus, HTTP to nobody, and Triton may call nobody."""
    (policy,) = (r["spec"] for r in RESOURCES if r["kind"] == "NetworkPolicy" and r["metadata"]["name"] == "triton")
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"} and "egress" not in policy
    grants = {port["port"]: rule["from"] for rule in policy["ingress"] for port in rule["ports"]}
    assert set(grants) == {"grpc", "metrics"} <= port_names("triton")
    (peer,) = grants["grpc"]
    assert selected(peer["podSelector"]["matchLabels"]) == ["gateway"] and "namespaceSelector" not in peer


def test_nothing_is_published_outside_the_cluster() -> None:
    """No service but of type ClusterIP, no port of a node, no way in but the one that the cluster's operator adds."""
    kinds = {resource["kind"] for resource in RESOURCES}
    assert not kinds & {"Ingress", "Gateway", "HTTPRoute", "DaemonSet"}
    assert {r["spec"].get("type", "ClusterIP") for r in RESOURCES if r["kind"] == "Service"} == {"ClusterIP"}
    for pod in pods().values():
        assert not {"hostNetwork", "hostPID", "hostIPC"} & pod["spec"].keys()
        assert not [port for container in pod["spec"]["containers"] for port in container["ports"] if "hostPort" in port]


TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
DURATION = {"type": "string", "pattern": "^(0|([0-9]+(ms|s|m|h|d|w|y))+)$"}
RULE = {
    "type": "object",
    "required": ["expr"],
    "oneOf": [{"required": ["alert"]}, {"required": ["record"]}],
    "additionalProperties": False,
    "properties": {
        **{name: {"type": "string", "minLength": 1} for name in ("alert", "record", "expr")},
        **{name: DURATION for name in ("for", "keep_firing_for")},
        **{name: TEXTS for name in ("labels", "annotations")},
    },
}
GROUP = {
    "type": "object",
    "required": ["name"],
    "additionalProperties": False,
    "properties": {"name": {"type": "string"}, "interval": DURATION, "rules": {"type": "array", "items": RULE}},
}
MONITOR = {
    "type": "object",
    "required": ["selector", "endpoints"],
    "additionalProperties": False,
    "properties": {
        "selector": {"type": "object", "required": ["matchLabels"], "properties": {"matchLabels": TEXTS}},
        "endpoints": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "properties": {"port": {"type": "string"}, "path": {"type": "string"}, "interval": DURATION},
            },
        },
    },
}
# What the fields used here may hold, after the operator's API reference (monitoring.coreos.com/v1); its own definitions are not
# among the published schemas that a package brings.
OPERATOR = {
    "PrometheusRule": {"groups": {"type": "array", "items": GROUP}},
    "ServiceMonitor": MONITOR["properties"],
}


@pytest.mark.parametrize("resource", [pytest.param(r, id=named(r)) for r in RESOURCES if "coreos" in r["apiVersion"]])
def test_resources_of_the_prometheus_operator_fit_its_fields(resource: dict[str, Any]) -> None:
    """No unknown field, and every one of the type that the operator's reference gives it."""
    assert resource["apiVersion"] == "monitoring.coreos.com/v1"
    spec = {"type": "object", "additionalProperties": False, "properties": OPERATOR[resource["kind"]]}
    jsonschema.validate(resource["spec"], spec)


def test_the_operators_rules_are_prometheus_own() -> None:
    """docker/k8s/rules.yaml is what operator.py makes of docker/prometheus/rules now: every group, once."""
    script = ROOT / "docker" / "prometheus" / "operator.py"
    made = subprocess.run(
        [sys.executable, "-P", str(script)], capture_output=True, text=True, check=True, encoding="utf-8"
    ).stdout
    assert (FOLDER / "rules.yaml").read_text(encoding="utf-8") == made
    files = sorted((ROOT / "docker" / "prometheus" / "rules").glob("*.yml"))
    groups = [group for file in files for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]]
    assert [g for r in RESOURCES if r["kind"] == "PrometheusRule" for g in r["spec"]["groups"]] == groups


@pytest.mark.parametrize("monitor", of_kind("ServiceMonitor"))
def test_monitors_scrape_a_port_of_their_service(monitor: dict[str, Any]) -> None:
    """The labels are a service's own, and the port is one of its names."""
    labels = monitor["spec"]["selector"]["matchLabels"].items()
    (service,) = (r for r in RESOURCES if r["kind"] == "Service" and labels <= r["metadata"]["labels"].items())
    assert monitor["spec"]["endpoints"][0]["port"] in {port["name"] for port in service["spec"]["ports"]}
