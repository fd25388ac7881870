"""What is deployed, and the AWS calls that put it there.

One endpoint, and on it one production variant for each top-level model: Triton's SageMaker front end answers `/invocations` by
one model only (docs/adr/0014-sagemaker.md).
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Any

from app.errors import InvalidInput
from app.sagemaker.archive import BESIDE, Archive
from app.sagemaker.container import environment

SCALABLE = {"ServiceNamespace": "sagemaker", "ScalableDimension": "sagemaker:variant:DesiredInstanceCount"}
VARIANTS = tuple(BESIDE)


@dataclass(frozen=True, slots=True)
class Call:
    """One method of one boto3 client; `waiter` names a waiter of it instead."""

    service: str
    method: str
    arguments: dict[str, Any]
    waiter: bool = False

    def __str__(self) -> str:
        return f"{self.service}.{'wait ' if self.waiter else ''}{self.method} {json.dumps(self.arguments)}"


@dataclass(frozen=True, slots=True)
class Deployment:
    """A served archive.

    Attributes:
        name: of the endpoint; all other names begin with it.
        role: ARN of the role that the containers run as; it must be able to read the bucket.
        image: URI of SageMaker's Triton container.
        instances, most_instances: of each variant, at first and at most.
        concurrency: requests in flight an instance, which autoscaling aims at.
        p90_ms: the alarm goes off above this model latency.
        topic: ARN of an SNS topic that the alarm tells; none when empty.
        startup_s: how long a container may take from its start to its first healthy `/ping`.
    """

    name: str
    archive: Archive
    bucket: str
    role: str
    image: str
    instance_type: str = "ml.g5.xlarge"
    instances: int = 1
    most_instances: int = 4
    concurrency: float = 4.0
    p90_ms: float = 25.0
    topic: str = ""
    startup_s: int = 600
    revision: str = field(init=False)

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9](-?[A-Za-z0-9])*", self.name) or len(self.name) > 40:
            raise InvalidInput(
                f"{self.name!r} cannot be an endpoint's name: letters, digits, single dashes between them, 40 in all"
            )
        if not 1 <= self.instances <= self.most_instances:
            raise InvalidInput(f"{self.most_instances} instances at most are fewer than the {self.instances} at first")
        served = [self.archive.digest, self.bucket, self.role, self.image, self.instance_type, self.instances, self.startup_s]
        object.__setattr__(self, "revision", hashlib.sha256(json.dumps(served).encode()).hexdigest()[:12])

    @property
    def key(self) -> str:
        """Where the archive lies in the bucket."""
        return f"searchbar/{self.name}/{self.revision}/model.tar.gz"

    @property
    def config_name(self) -> str:
        """Name of the endpoint's configuration: another one whenever anything about its instances changes."""
        return f"{self.name}-{self.revision}"

    def model_name(self, variant: str) -> str:
        """Name of SageMaker's model for a variant."""
        return f"{self.name}-{variant}-{self.revision}"

    def calls(self, serving: str | None = None) -> list[Call]:
        """Everything from the upload to the alarms; `serving` is the configuration that the endpoint has now, if it exists."""
        upload = Call("s3", "upload_file", {"Filename": str(self.archive.path), "Bucket": self.bucket, "Key": self.key})
        endpoint = {"EndpointName": self.name, "EndpointConfigName": self.config_name}
        calls: list[Call] = []
        if serving != self.config_name:
            calls += [upload, *(self._model(variant) for variant in VARIANTS), self._config()]
            # Counts that autoscaling has chosen stay.
            more = {"RetainAllVariantProperties": True}
            calls.append(
                Call("sagemaker", "update_endpoint", {**endpoint, **more})
                if serving
                else Call("sagemaker", "create_endpoint", endpoint)
            )
        calls.append(Call("sagemaker", "endpoint_in_service", {"EndpointName": self.name}, waiter=True))
        return calls + [call for variant in VARIANTS for call in (*self._scaling(variant), self._alarm(variant))]

    def _model(self, variant: str) -> Call:
        container = {
            "Image": self.image,
            "ModelDataUrl": f"s3://{self.bucket}/{self.key}",
            "Environment": environment(variant, self.archive.config),
        }
        return Call(
            "sagemaker",
            "create_model",
            {
                "ModelName": self.model_name(variant),
                "PrimaryContainer": container,
                "ExecutionRoleArn": self.role,
                "EnableNetworkIsolation": True,
            },
        )

    def _config(self) -> Call:
        variants = [
            {
                "VariantName": variant,
                "ModelName": self.model_name(variant),
                "InstanceType": self.instance_type,
                "InitialInstanceCount": self.instances,
                "InitialVariantWeight": 1.0,
                "ContainerStartupHealthCheckTimeoutInSeconds": self.startup_s,
            }
            for variant in VARIANTS
        ]
        # No DataCaptureConfig: what listeners type is not recorded.
        return Call(
            "sagemaker", "create_endpoint_config", {"EndpointConfigName": self.config_name, "ProductionVariants": variants}
        )

    def _scaling(self, variant: str) -> list[Call]:
        target = {**SCALABLE, "ResourceId": resource(self.name, variant)}
        policy = {
            "TargetValue": self.concurrency,
            "PredefinedMetricSpecification": {
                "PredefinedMetricType": "SageMakerVariantConcurrentRequestsPerModelHighResolution"
            },
            "ScaleOutCooldown": 60,
            "ScaleInCooldown": 300,
        }
        sizes = {"MinCapacity": self.instances, "MaxCapacity": self.most_instances}
        named = {"PolicyName": f"{self.name}-{variant}-concurrency", "PolicyType": "TargetTrackingScaling"}
        return [
            Call("application-autoscaling", "register_scalable_target", {**target, **sizes}),
            Call(
                "application-autoscaling",
                "put_scaling_policy",
                {**named, **target, "TargetTrackingScalingPolicyConfiguration": policy},
            ),
        ]

    def _alarm(self, variant: str) -> Call:
        dimensions = {"EndpointName": self.name, "VariantName": variant}
        return Call(
            "cloudwatch",
            "put_metric_alarm",
            {
                "AlarmName": alarm(self.name, variant),
                "AlarmDescription": f"p90 of the model latency of {self.name}/{variant} is over {self.p90_ms:g} ms",
                "Namespace": "AWS/SageMaker",
                "MetricName": "ModelLatency",
                "Dimensions": [{"Name": name, "Value": value} for name, value in dimensions.items()],
                "ExtendedStatistic": "p90",
                "Unit": "Microseconds",
                "Threshold": self.p90_ms * 1000,
                "ComparisonOperator": "GreaterThanThreshold",
                "Period": 60,
                "EvaluationPeriods": 5,
                "DatapointsToAlarm": 3,
                "TreatMissingData": "notBreaching",
                "AlarmActions": [self.topic] if self.topic else [],
            },
        )


def resource(name: str, variant: str) -> str:
    """Application Auto Scaling's name for a variant."""
    return f"endpoint/{name}/variant/{variant}"


def alarm(name: str, variant: str) -> str:
    """Name of a variant's alarm."""
    return f"{name}-{variant}-p90"
