"""A model's files before an engine loads them: from the cache, or from the hub with their progress told."""

from __future__ import annotations

from pathlib import Path

from config.cache import is_here
from config.fetches import Fetch
from pipeline.engine import EngineError, Progress, Report


def fetched(fetch: Fetch, report: Report) -> Path:
    """The folder of a repository that the hub is asked for only where something of it is lacking here.

    Synchronous: for worker processes, which can be ended at any time; what has come is kept.

    Raises:
        EngineError: no such model, no licence, a wrong token, no way to the hub, a full disk; in one sentence.
    """
    from huggingface_hub import snapshot_download

    from pipeline.models.downloads import Downloader, DownloadError
    from pipeline.models.plan import Tick

    try:
        if not is_here(fetch):
            downloader = Downloader()
            plan = downloader.plan([fetch])

            def tell(tick: Tick) -> None:
                report(Progress(f"fetching {fetch.repository}", tick.have / max(1, plan.size)))

            downloader.fetch(plan, tell)
    except DownloadError as error:
        raise EngineError(str(error)) from error
    return Path(snapshot_download(fetch.repository, local_files_only=True))
