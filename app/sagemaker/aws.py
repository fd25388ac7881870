"""AWS: the one place where deployments meet boto3."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from app.errors import SearchbarError, SetupError
from app.sagemaker.deployment import SCALABLE, VARIANTS, Call, Deployment, alarm, resource
from app.sagemaker.session import session

Client = Any  # boto3 makes its clients' classes at run time


class Account:
    """Runs calls in one account and region and looks up what is there.

    Raises:
        SetupError: AWS refused a call, or a wait ended badly; the message says which and why.
    """

    def __init__(self, region: str | None) -> None:
        self._session = session(region)
        self.region: str = self._session.region_name
        self._clients: dict[str, Client] = {}

    def client(self, service: str) -> Client:
        """The account's client of an AWS service."""
        if service not in self._clients:
            self._clients[service] = self._session.client(service)
        return self._clients[service]

    def run(self, call: Call, uploaded: Callable[[int], None] = lambda size: None) -> None:
        """Make one call; `uploaded` is told the sizes of the pieces that an upload has sent."""
        with translated(call):
            if call.waiter:
                self.client(call.service).get_waiter(call.method).wait(**call.arguments)
            elif call.method == "upload_file":
                self.client(call.service).upload_file(**call.arguments, Callback=uploaded)
            else:
                getattr(self.client(call.service), call.method)(**call.arguments)

    def serving(self, name: str) -> str | None:
        """Name of the configuration that an endpoint has; None when there is no such endpoint."""
        with translated(Call("sagemaker", "list_endpoints", {})):
            if name not in {found["EndpointName"] for found in self._pages("sagemaker", "list_endpoints", NameContains=name)}:
                return None
            return str(self.client("sagemaker").describe_endpoint(EndpointName=name)["EndpointConfigName"])

    def confirm(self, deployment: Deployment) -> None:
        """Raises SetupError when the endpoint serves something else: SageMaker rolls an update that fails back."""
        if (now := self.serving(deployment.name)) != deployment.config_name:
            with translated(Call("sagemaker", "describe_endpoint", {})):
                reason = self.client("sagemaker").describe_endpoint(EndpointName=deployment.name).get("FailureReason", "")
            raise SetupError(f"the endpoint serves {now} and not {deployment.config_name}: {reason or 'no reason is given'}")

    def missing(self, deployment: Deployment) -> list[Call]:
        """The calls that are left to do: those that an interrupted deployment has made already are left out."""
        revision = re.escape(deployment.revision)
        with translated(Call("sagemaker", "list_models", {})):
            made = {
                "create_model": {name for name, _ in self._models(deployment.name, revision)},
                "create_endpoint_config": set(self._configs(deployment.name, revision)),
            }
        names = {"create_model": "ModelName", "create_endpoint_config": "EndpointConfigName"}
        calls = deployment.calls(self.serving(deployment.name))
        return [c for c in calls if c.method not in made or c.arguments[names[c.method]] not in made[c.method]]

    def removal(self, name: str) -> list[Call]:
        """The calls that remove what is left of a deployment and its earlier revisions, last built first."""
        with translated(Call("sagemaker", "delete", {"EndpointName": name})):
            return [*self._watching(name), *self._serving(name)]

    def _watching(self, name: str) -> Iterator[Call]:
        alarms = [alarm(name, variant) for variant in VARIANTS]
        found = self._pages("cloudwatch", "describe_alarms", "MetricAlarms", AlarmNames=alarms)
        if names := [one["AlarmName"] for one in found]:
            yield Call("cloudwatch", "delete_alarms", {"AlarmNames": names})
        service, which = "application-autoscaling", {"ServiceNamespace": SCALABLE["ServiceNamespace"]}
        for variant in VARIANTS:
            target = {**SCALABLE, "ResourceId": resource(name, variant)}
            for policy in self._pages(service, "describe_scaling_policies", **which, ResourceId=resource(name, variant)):
                yield Call(service, "delete_scaling_policy", {**target, "PolicyName": policy["PolicyName"]})
            for _ in self._pages(service, "describe_scalable_targets", **which, ResourceIds=[resource(name, variant)]):
                yield Call(service, "deregister_scalable_target", target)

    def _serving(self, name: str) -> Iterator[Call]:
        if self.serving(name) is not None:
            yield Call("sagemaker", "delete_endpoint", {"EndpointName": name})
            yield Call("sagemaker", "endpoint_deleted", {"EndpointName": name}, waiter=True)
        for config in self._configs(name):
            yield Call("sagemaker", "delete_endpoint_config", {"EndpointConfigName": config})
        models = list(self._models(name))
        for bucket, key in sorted({place for _, place in models if place[1].startswith(f"searchbar/{name}/")}):
            yield Call("s3", "delete_object", {"Bucket": bucket, "Key": key})
        # Last: they alone say where the archives lie, so that a removal broken off in between can be taken up again.
        for model, _ in models:
            yield Call("sagemaker", "delete_model", {"ModelName": model})

    def _configs(self, name: str, revision: str = "[0-9a-f]{12}") -> Iterator[str]:
        for found in self._pages("sagemaker", "list_endpoint_configs", NameContains=f"{name}-"):
            if re.fullmatch(rf"{re.escape(name)}-{revision}", found["EndpointConfigName"]):
                yield found["EndpointConfigName"]

    def _models(self, name: str, revision: str = "[0-9a-f]{12}") -> Iterator[tuple[str, tuple[str, str]]]:
        """Names of the deployment's models with bucket and key of their archives."""
        for found in self._pages("sagemaker", "list_models", NameContains=f"{name}-"):
            model = found["ModelName"]
            if re.fullmatch(rf"{re.escape(name)}-(?:{'|'.join(VARIANTS)})-{revision}", model):
                described = self.client("sagemaker").describe_model(ModelName=model)
                bucket, _, key = described["PrimaryContainer"]["ModelDataUrl"].removeprefix("s3://").partition("/")
                yield model, (bucket, key)

    def _pages(self, service: str, method: str, key: str | None = None, **arguments: Any) -> Iterator[dict[str, Any]]:
        """The items of a listing, over all its pages."""
        paginator = self.client(service).get_paginator(method)
        for page in paginator.paginate(**arguments):
            yield from page[key or paginator.result_keys[0].expression]


@contextmanager
def translated(call: Call) -> Iterator[None]:
    """boto3's exceptions as this project's."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError, WaiterError

    try:
        yield
    except SearchbarError:
        raise
    except WaiterError as exc:
        reason = exc.last_response.get("FailureReason", exc)
        raise SetupError(f"{call.service}: {call.method} was not reached: {reason}") from exc
    except (BotoCoreError, Boto3Error, ClientError) as exc:
        raise SetupError(f"{call.service}.{call.method}: {exc}") from exc
