"""`searchbar index` on Ray, or onto a Qdrant cluster: the builds of `app/index/bulk.py`."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import Progress

from app.cli_build import console, embedding, progress_columns, say
from app.cli_train import extra
from app.errors import InvalidInput
from app.index.address import ClusterAddress
from app.settings import Settings

if TYPE_CHECKING:
    from app.index.build import BuildReport
    from app.index.edge_layout import EdgeLayout


def run_bulk(
    file: Path, where: Path | ClusterAddress, settings: Settings, *, workers: int, dimensions: int | None, layout: EdgeLayout
) -> BuildReport:
    """Build the index of `file` at `where` with a progress bar and report what was left out.

    Args:
        workers: Ray processes that embed; 0 embeds here.
        dimensions: of each embedding that are kept; None keeps all.
        layout: of an index in a directory; a cluster's is in its address.
    """
    from app.index.bulk import build_whole, embedding_here, embedding_on_ray, manifest_of, new_collection, new_directory
    from app.stack import fingerprint

    beside = Path(where.collection) if isinstance(where, ClusterAddress) else where
    rejects = beside.absolute().with_name(f"{beside.name}.rejects.jsonl")
    rejects.parent.mkdir(parents=True, exist_ok=True)

    async def build() -> BuildReport:
        async with AsyncExitStack() as stack:
            embed, longest = await stack.enter_async_context(embedding(settings))
            kept = dimensions or longest
            if kept > longest:
                raise InvalidInput(f"--dimensions {dimensions}: the embedder makes {longest}")
            progress = stack.enter_context(Progress(*progress_columns(), console=console))
            task = progress.add_task("indexing", total=None)

            def done(rows: int, total: int | None) -> None:
                progress.update(task, completed=rows, total=total)

            if workers:
                with extra("ray"):
                    from app.index.ray_engine import embedded_rows
                rows = stack.enter_context(closing(embedded_rows(file, settings.model_repository, workers)))
                fill = embedding_on_ray(file, rows, kept, done)
            else:
                fill = embedding_here(file, embed, kept, done)
            if isinstance(where, ClusterAddress):
                key = settings.index_api_key.get_secret_value() if settings.index_api_key else None
                manifest = manifest_of(file, kept, fingerprint(settings), where.layout.quantisation)
                return await build_whole(file, new_collection(where, key, kept), fill, rejects, manifest)
            manifest = manifest_of(file, kept, fingerprint(settings), layout.quantisation)
            return await build_whole(file, new_directory(where, kept, layout), fill, rejects, manifest)

    report = asyncio.run(build())
    say(report, where)
    return report
