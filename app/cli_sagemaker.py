"""`searchbar sagemaker`: the models on an Amazon SageMaker endpoint."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

from app.settings import Settings

sagemaker = typer.Typer(help="Serve the models from an Amazon SageMaker endpoint (`sagemaker` extra).", no_args_is_help=True)
console = Console(stderr=True)

ARCHIVE = Path("var") / "model.tar.gz"
Name = Annotated[str, typer.Option(help="The endpoint's name; the names of all that belongs to it begin with it.")]
Region = Annotated[str | None, typer.Option(help="AWS region.", show_default="that of the AWS configuration")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the calls and make none of them.")]
BAR = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())


@sagemaker.command()
def package(
    config: Annotated[str, typer.Option(help="configs/NAME.pbtxt of the models: gpu (TensorRT plans) or cpu.")] = "gpu",
    out: Annotated[Path, typer.Option(help="The archive to write.")] = ARCHIVE,
    repository: Annotated[Path | None, typer.Option(help="Model repository.", show_default="triton/models")] = None,
) -> None:
    """Pack the model repository for SageMaker's Triton container.

    The same repository gives the same bytes. `tokenizers`, which the container lacks, is packed beside the models that
    import it.
    """
    from app.sagemaker.archive import pack

    with Progress(*BAR, console=console) as progress:
        task = progress.add_task("packing", total=None)
        made = pack(
            repository or Settings().model_repository,
            config,
            out,
            lambda done, total: progress.update(task, completed=done, total=total),
        )
    typer.echo(f"{made.path}: {made.size / 1e6:.1f} MB, sha256 {made.digest}")


@sagemaker.command()
def deploy(
    role: Annotated[str, typer.Option(help="ARN of the role that the containers run as.")],
    bucket: Annotated[str, typer.Option(help="S3 bucket for the archive, in the same region.")],
    archive: Annotated[Path, typer.Option(help="What `package` wrote.")] = ARCHIVE,
    name: Name = "searchbar",
    region: Region = None,
    image: Annotated[str | None, typer.Option(help="URI of the container.", show_default="SageMaker's Triton 24.09")] = None,
    instance_type: Annotated[str, typer.Option(help="Instances of each of the two variants.")] = "ml.g5.xlarge",
    instances: Annotated[int, typer.Option(help="Instances of each variant at first and at least.", min=1)] = 1,
    most_instances: Annotated[int, typer.Option(help="Instances of each variant at most.", min=1)] = 4,
    concurrency: Annotated[float, typer.Option(help="Requests in flight an instance; autoscaling aims at it.", min=0.1)] = 4.0,
    p90_ms: Annotated[float, typer.Option(help="Model latency, p90, that the alarm allows.", min=0.1)] = 25.0,
    topic: Annotated[str, typer.Option(help="ARN of an SNS topic for the alarm.", show_default="none")] = "",
    startup_s: Annotated[int, typer.Option(help="Time for a container to turn healthy.", min=60, max=3600)] = 600,
    dry_run: DryRun = False,
) -> None:
    """Deploy an archive: upload, models, endpoint, autoscaling, alarm; returns when it is in service.

    Given again it takes up where it was broken off; with another archive or other options it updates the endpoint, which goes
    on answering meanwhile. Costs money from then on, until `searchbar sagemaker delete`.
    """
    from app.sagemaker.archive import Archive
    from app.sagemaker.aws import Account
    from app.sagemaker.container import image_uri
    from app.sagemaker.deployment import Deployment
    from app.sagemaker.session import session

    packed = Archive.read(archive)
    where = region if dry_run and region else session(region).region_name
    wanted = Deployment(
        name,
        packed,
        bucket,
        role,
        image or image_uri(where, packed.config),
        instance_type=instance_type,
        instances=instances,
        most_instances=most_instances,
        concurrency=concurrency,
        p90_ms=p90_ms,
        topic=topic,
        startup_s=startup_s,
    )
    if dry_run:
        for call in wanted.calls():
            typer.echo(call)
        console.print("Nothing was looked up: of an endpoint that exists, update_endpoint takes the place of create_endpoint.")
        return
    account = Account(where)
    with Progress(*BAR, console=console) as progress:
        for call in account.missing(wanted):
            task = progress.add_task(f"{call.service} {call.method}", total=packed.size if call.method == "upload_file" else 1)
            account.run(call, lambda size, task=task: progress.advance(task, size))  # type: ignore[misc]
            progress.update(task, completed=progress.tasks[task].total)
    account.confirm(wanted)
    typer.echo(f"in service: searchbar serve --triton 'sagemaker://{name}?region={where}'")


@sagemaker.command()
def invoke(
    query: Annotated[str, typer.Argument(help="What a listener types.")] = "bilie jean micheal jackson",
    name: Name = "searchbar",
    region: Region = None,
    timeout_s: Annotated[float, typer.Option(help="Seconds that a model may take.", min=0.1)] = 10.0,
) -> None:
    """Send one query to both models of an endpoint."""
    from app.inference import text_tensor
    from app.text import fold
    from app.triton_sagemaker import SCHEME, SageMakerBackend

    async def ask() -> None:
        backend = SageMakerBackend(f"{SCHEME}{name}" + (f"?region={region}" if region else ""))
        text = text_tensor([[fold(query)]])
        try:
            started = time.perf_counter()
            spelt = await backend.infer("speller", {"QUERY": text, "CANDIDATES": text}, ["TEXT"], timeout_s)
            between = time.perf_counter()
            vector = (await backend.infer("embedder", {"QUERY": text}, ["EMBEDDING"], timeout_s))["EMBEDDING"][0]
            ended = time.perf_counter()
        finally:
            await backend.close()
        typer.echo(f"speller   {(between - started) * 1000:6.1f} ms  {spelt['TEXT'][0, 0].decode()}")
        typer.echo(f"embedder  {(ended - between) * 1000:6.1f} ms  {len(vector)} numbers, {vector[0]:.4f} the first")

    asyncio.run(ask())


@sagemaker.command()
def delete(name: Name = "searchbar", region: Region = None, dry_run: DryRun = False) -> None:
    """Remove alarm, autoscaling, endpoint, configurations, archives and models. Given again it removes what is left."""
    from app.sagemaker.aws import Account

    account = Account(region)
    calls = account.removal(name)
    for call in calls:
        typer.echo(call)
        if not dry_run:
            account.run(call)
    typer.echo("would be removed" if dry_run and calls else f"nothing of {name} is left in {account.region}")
