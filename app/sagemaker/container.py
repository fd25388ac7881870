"""SageMaker's Triton container: which image, and what it is told."""

from __future__ import annotations

import json
from pathlib import Path

from app.errors import InvalidInput
from app.sagemaker.archive import BESIDE
from app.settings import ROOT

IMAGES = ROOT / "app" / "data" / "sagemaker_images.json"


def environment(variant: str, config: str) -> dict[str, str]:
    """The container's environment: Triton loads one model and what its ensemble names, so a BLS model's callees are told."""
    arguments = [f"--model-config-name={config}", *(f"--load-model={name}" for name in BESIDE[variant])]
    arguments += ["--disable-auto-complete-config", "--strict-readiness=true", "--exit-on-error=true"]
    return {
        "SAGEMAKER_TRITON_DEFAULT_MODEL_NAME": variant,
        "SAGEMAKER_TRITON_ADDITIONAL_ARGS": " ".join(arguments),
        "SAGEMAKER_TRITON_LOG_VERBOSE": "false",  # the container's default writes every request to CloudWatch
    }


def image_uri(region: str, config: str, table: Path = IMAGES) -> str:
    """URI of SageMaker's Triton image; models that run by ``cpu.pbtxt`` take the image without CUDA.

    Raises:
        InvalidInput: the table has no account for the region.
    """
    known = json.loads(table.read_text(encoding="utf-8"))
    if region not in known["accounts"]:
        raise InvalidInput(f"no account is known for SageMaker's Triton image in {region!r}: name the image by --image")
    domain = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    tag = known["tag"] + ("-cpu" if config == "cpu" else "")
    return f"{known['accounts'][region]}.dkr.ecr.{region}.{domain}/sagemaker-tritonserver:{tag}"
