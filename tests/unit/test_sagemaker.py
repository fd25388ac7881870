"""`searchbar sagemaker`: the archive, and the AWS calls against moto, an AWS in memory."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import boto3
import botocore.session
import pytest
from botocore.validate import ParamValidator
from moto import mock_aws
from typer.testing import CliRunner

from app.cli_sagemaker import sagemaker
from app.errors import (
    InvalidInput,
    SetupError,
)
from app.sagemaker.archive import Archive, pack
from app.sagemaker.aws import Account
from app.sagemaker.container import environment, image_uri
from app.sagemaker.deployment import VARIANTS, Call, Deployment
from app.settings import ROOT

MODELS = ROOT / "triton" / "models"
ROLE = "arn:aws:iam::123456789012:role/searchbar"
REGION = "eu-west-1"
KNOWN_TO_MOTO = "ml.g4dn.xlarge"  # its list of instances ends before ml.g5


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    return pack(MODELS, "cpu", tmp_path_factory.mktemp("archive") / "model.tar.gz")


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    """An empty account with one bucket, whose endpoints are in service at once."""
    for name, value in {"ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test", "DEFAULT_REGION": REGION}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    with mock_aws():
        boto3.client("s3").create_bucket(Bucket="models", CreateBucketConfiguration={"LocationConstraint": REGION})
        yield Account(REGION)


def deployment(archive: Archive, **more: object) -> Deployment:
    given = {"instance_type": KNOWN_TO_MOTO, **more}
    return Deployment("music", archive, "models", ROLE, image_uri(REGION, "cpu"), **given)  # type: ignore[arg-type]


def deploy(account: Account, wanted: Deployment) -> list[str]:
    """Deploys what is missing; the names of the calls."""
    calls = account.missing(wanted)
    for call in calls:
        account.run(call)
    return [call.method for call in calls]


def left(account: Account) -> dict[str, int]:
    """How much of each kind is in the account."""
    scaling = account.client("application-autoscaling")
    return {
        "objects": account.client("s3").list_objects_v2(Bucket="models")["KeyCount"],
        "models": len(account.client("sagemaker").list_models()["Models"]),
        "configs": len(account.client("sagemaker").list_endpoint_configs()["EndpointConfigs"]),
        "endpoints": len(account.client("sagemaker").list_endpoints()["Endpoints"]),
        "targets": len(scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]),
        "policies": len(scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]),
        "alarms": len(account.client("cloudwatch").describe_alarms()["MetricAlarms"]),
    }


# The archive


def test_archive_is_the_repository_at_its_root_and_nothing_else(archive: Archive) -> None:
    """Every model with one configuration and its engine's weights; no other machine's owner, time or cache in it."""
    with tarfile.open(archive.path) as tar:
        members = tar.getmembers()
    names = {member.name for member in members}
    assert {name.split("/")[0] for name in names} == {path.name for path in MODELS.iterdir() if path.is_dir()}
    assert {"speller/1", "speller/config.pbtxt", "speller_encoder/configs/cpu.pbtxt"} <= names
    assert {"speller_encoder/1/model.onnx", "speller_generate/1/aggressive.py"} <= names
    vendored = {name.split("/")[0] for name in names if name.endswith("/1/tokenizers/tokenizers.abi3.so")}
    assert vendored == {"embedder_tokenize", "speller_tokenize", "speller_detokenize"}
    assert not [name for name in names if "gpu" in name or "__pycache__" in name or "/." in name]
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, 0, "", "")}
    assert (archive.config, archive.size) == ("cpu", archive.path.stat().st_size)


def test_archive_of_a_copy_is_the_same(archive: Archive, tmp_path: Path) -> None:
    """The digest depends on what is packed, not on when or where; half an archive is never left behind."""
    shutil.copytree(MODELS, tmp_path / "models")
    seen: list[tuple[int, int]] = []
    again = pack(tmp_path / "models", "cpu", tmp_path / "out" / "model.tar.gz", lambda *counts: seen.append(counts))
    assert again.digest == archive.digest
    assert seen[-1][0] == seen[-1][1] > 30_000_000
    (tmp_path / "models" / "speller_encoder" / "1" / "model.onnx").unlink()
    with pytest.raises(SetupError, match=r"speller_encoder has no 1/model.onnx"):
        pack(tmp_path / "models", "cpu", tmp_path / "none" / "model.tar.gz")
    assert not list((tmp_path / "none").glob("*"))


def test_gpu_archive_wants_and_takes_plans(tmp_path: Path) -> None:
    """Without TensorRT plans packing for a GPU says so; with them they are packed and the ONNX weights are not."""
    shutil.copytree(MODELS, tmp_path / "models")
    for plan in (tmp_path / "models").glob("*/1/model.plan"):
        plan.unlink()
    with pytest.raises(SetupError, match=r"has no 1/model.plan.*--config cpu"):
        pack(tmp_path / "models", "gpu", tmp_path / "model.tar.gz")
    for model in ("embedder_encoder", "speller_encoder", "speller_decoder"):
        (tmp_path / "models" / model / "1" / "model.plan").write_bytes(b"plan")
    made = pack(tmp_path / "models", "gpu", tmp_path / "model.tar.gz")
    with tarfile.open(made.path) as tar:
        weights = sorted(name for name in tar.getnames() if Path(name).suffix in (".onnx", ".plan"))
    assert made.config == "gpu" and weights == [
        "embedder_encoder/1/model.plan",
        "speller_decoder/1/model.plan",
        "speller_encoder/1/model.plan",
    ]


# Deployment


def test_deploy_puts_everything_there_and_delete_takes_it_away(account: Account, archive: Archive) -> None:
    """After `deploy` each part is there once for each variant; after `delete` nothing is, and a second one finds nothing."""
    wanted = deployment(archive)
    deploy(account, wanted)
    account.confirm(wanted)
    assert left(account) == {
        **dict.fromkeys(["objects", "configs", "endpoints"], 1),
        **dict.fromkeys(["models", "targets", "policies"], 2),
        "alarms": 2 + scaling_alarms(account),
    }
    stored = account.client("s3").get_object(Bucket="models", Key=wanted.key)["ContentLength"]
    assert stored == archive.size
    others = Deployment("music-eu", archive, "models", ROLE, "image", KNOWN_TO_MOTO)
    deploy(account, others)
    for call in account.removal("music"):
        account.run(call)
    assert account.removal("music") == []
    account.confirm(others)
    for call in account.removal("music-eu"):
        account.run(call)
    assert set(left(account).values()) == {0}


def scaling_alarms(account: Account) -> int:
    """Alarms that Application Auto Scaling makes for itself, and removes with its policies."""
    found = account.client("cloudwatch").describe_alarms()["MetricAlarms"]
    return sum(alarm["AlarmName"].startswith("TargetTracking") for alarm in found)


def test_what_is_deployed(account: Account, archive: Archive) -> None:
    """Each variant runs its own model; p90 of the model latency may be 25 ms; no traffic is recorded."""
    wanted = deployment(archive)
    deploy(account, wanted)
    client = account.client("sagemaker")
    config = client.describe_endpoint_config(EndpointConfigName=wanted.config_name)
    assert not config.get("DataCaptureConfig")
    for variant in config["ProductionVariants"]:
        assert (variant["InstanceType"], variant["InitialInstanceCount"]) == (KNOWN_TO_MOTO, 1)
        assert variant["ContainerStartupHealthCheckTimeoutInSeconds"] == 600
        container = client.describe_model(ModelName=variant["ModelName"])["PrimaryContainer"]
        assert container["Environment"]["SAGEMAKER_TRITON_DEFAULT_MODEL_NAME"] == variant["VariantName"]
        assert container["ModelDataUrl"] == f"s3://models/{wanted.key}"
    assert [variant["VariantName"] for variant in config["ProductionVariants"]] == list(VARIANTS)
    alarms = account.client("cloudwatch").describe_alarms(AlarmNamePrefix="music-")["MetricAlarms"]
    assert {(alarm["MetricName"], alarm["ExtendedStatistic"], alarm["Threshold"]) for alarm in alarms} == {
        ("ModelLatency", "p90", 25_000.0)
    }


def test_interrupted_deployment_is_taken_up_again(account: Account, archive: Archive) -> None:
    """Whatever a first try has made is not made again, and a finished one is left as it is."""
    wanted = deployment(archive)
    for call in account.missing(wanted)[:3]:  # the upload and both models
        account.run(call)
    second = deploy(account, wanted)
    assert "create_model" not in second and second[:3] == ["upload_file", "create_endpoint_config", "create_endpoint"]
    assert "create_endpoint" not in deploy(account, wanted)


def test_another_archive_updates_the_endpoint(archive: Archive, tmp_path: Path) -> None:
    """Weights or options that differ make new names and an update; the same ones do not."""
    first, other = deployment(archive), deployment(archive, instance_type="ml.g6.xlarge")
    assert first.revision == deployment(archive).revision != other.revision
    methods = [call.method for call in other.calls(serving=first.config_name)]
    assert "update_endpoint" in methods and "create_endpoint" not in methods
    assert not {"update_endpoint", "create_endpoint"} & {call.method for call in first.calls(serving=first.config_name)}


def test_every_call_is_one_that_aws_has(archive: Archive) -> None:
    """Arguments fit the AWS service models: moto does not know update_endpoint, and looks at few of the rest."""
    topic = "arn:aws:sns:eu-west-1:123456789012:pager"
    wanted = Deployment("music", archive, "models", ROLE, image_uri(REGION, "cpu"), topic=topic)
    session = botocore.session.get_session()
    assert wanted.instance_type == "ml.g5.xlarge"
    instances = session.get_service_model("sagemaker").shape_for("ProductionVariantInstanceType")
    assert wanted.instance_type in instances.enum  # type: ignore[attr-defined]
    for call in [*wanted.calls(), *wanted.calls(serving="music-000000000000")]:
        if call.method == "upload_file":
            continue
        if call.waiter:
            assert call.method in session.create_client(call.service, REGION).waiter_names
            continue
        operation = "".join(word.capitalize() for word in call.method.split("_"))
        shape = session.get_service_model(call.service).operation_model(operation).input_shape
        report = ParamValidator().validate(call.arguments, shape)
        assert not report.has_errors(), report.generate_report()
        if metric := str(call.arguments.get("TargetTrackingScalingPolicyConfiguration", "")):
            kinds = session.get_service_model(call.service).shape_for("MetricType").enum  # type: ignore[attr-defined]
            assert any(f"'{kind}'" in metric for kind in kinds)


def test_environment_loads_all_that_a_variant_calls() -> None:
    """Triton's explicit mode loads the default model and what its ensemble names; models called from Python are named."""
    arguments = environment("speller", "gpu")["SAGEMAKER_TRITON_ADDITIONAL_ARGS"].split()
    assert {"--model-config-name=gpu", "--load-model=speller_encoder", "--load-model=speller_decoder"} <= set(arguments)
    assert "--load-model" not in environment("embedder", "gpu")["SAGEMAKER_TRITON_ADDITIONAL_ARGS"]


@pytest.mark.parametrize(
    ("region", "config", "image"),
    [
        pytest.param("us-east-1", "gpu", "763104351884.dkr.ecr.us-east-1.amazonaws.com", id="most-regions"),
        pytest.param("me-south-1", "cpu", "217643126080.dkr.ecr.me-south-1.amazonaws.com", id="own-account"),
        pytest.param("cn-north-1", "gpu", "727897471807.dkr.ecr.cn-north-1.amazonaws.com.cn", id="china"),
    ],
)
def test_image_by_region(region: str, config: str, image: str) -> None:
    """The account, the domain and the tag of AWS's own table."""
    assert image_uri(region, config) == f"{image}/sagemaker-tritonserver:24.09-py3" + ("-cpu" if config == "cpu" else "")


def test_wrong_deployments_are_refused(account: Account, archive: Archive, tmp_path: Path) -> None:
    """Names AWS would refuse, regions without an image, files that are no archive, buckets that are not there."""
    with pytest.raises(InvalidInput, match="cannot be an endpoint's name"):
        Deployment("music_1", archive, "models", ROLE, "image")
    with pytest.raises(InvalidInput, match="--image"):
        image_uri("eu-nowhere-1", "gpu")
    (tmp_path / "model.tar.gz").write_text("no archive")
    with pytest.raises(SetupError, match="searchbar sagemaker package"):
        Archive.read(tmp_path / "model.tar.gz")
    with pytest.raises(SetupError, match=r"s3.upload_file: .*NoSuchBucket"):
        account.run(Call("s3", "upload_file", {"Filename": str(archive.path), "Bucket": "absent", "Key": "key"}))


# Command line


def test_commands(account: Account, archive: Archive) -> None:
    """`deploy --dry-run` prints every call and makes none; `deploy` and `delete` make them."""
    runner = CliRunner()
    options = ["deploy", "--role", ROLE, "--bucket", "models", "--archive", str(archive.path), "--region", REGION]
    options += ["--instance-type", KNOWN_TO_MOTO]
    dry = runner.invoke(sagemaker, [*options, "--name", "music", "--dry-run"], catch_exceptions=False)
    assert dry.exit_code == 0 and set(left(account).values()) == {0}
    lines = [line for line in dry.stdout.splitlines() if line.partition(" ")[0].count(".") == 1]
    assert lines == [str(call) for call in deployment(archive).calls()]
    assert json.loads(lines[1].partition(" ")[2])["ExecutionRoleArn"] == ROLE
    done = runner.invoke(sagemaker, [*options, "--name", "music"], catch_exceptions=False)
    assert "sagemaker://music?region=eu-west-1" in done.stdout and left(account)["endpoints"] == 1
    runner.invoke(sagemaker, ["delete", "--name", "music", "--region", REGION], catch_exceptions=False)
    assert set(left(account).values()) == {0}
