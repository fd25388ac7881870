"""A way into AWS."""

from __future__ import annotations

from typing import Any

from app.errors import SetupError


def session(region: str | None) -> Any:
    """A boto3 session with a region and credentials.

    Raises:
        SetupError: boto3, a region or credentials are missing.
    """
    try:
        import boto3
        from botocore.exceptions import BotoCoreError
    except ModuleNotFoundError as exc:
        raise SetupError("SageMaker needs boto3: run `pip install 'searchbar[sagemaker]'`") from exc
    try:
        found = boto3.Session(region_name=region)
        if found.region_name is None:
            raise SetupError("no AWS region: give one (--region, ?region=) or set AWS_REGION")
        if found.get_credentials() is None:
            raise SetupError("no AWS credentials: run `aws configure sso` or set AWS_PROFILE")
    except BotoCoreError as exc:
        raise SetupError(f"AWS cannot be used: {exc}") from exc
    return found
