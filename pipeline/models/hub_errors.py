"""Turns errors in reaching the Hugging Face hub into one sentence that says what to do."""

from __future__ import annotations

import errno

import httpx2  # huggingface_hub's own client
from huggingface_hub import HfApi, constants
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)


class DownloadError(Exception):
    """A model cannot be downloaded; one sentence says what to do. What has arrived is kept."""


class TokenNeeded(DownloadError):
    """A licence must be accepted, and a token given."""

    def __init__(self, message: str, repository: str) -> None:
        super().__init__(message)
        self.repository = repository
        self.licence = f"{constants.ENDPOINT}/{repository}"


class explained:
    """Turns what huggingface_hub raises into a DownloadError with one sentence."""

    def __init__(self, repository: str, token: str | bool) -> None:
        self._repository = repository
        self._token = token

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, httpx2.HTTPError, OSError)):
            raise explain(error, self._repository, self._token) from error


def explain(error: Exception, name: str, token: str | bool) -> DownloadError:
    hub = constants.ENDPOINT
    if isinstance(error, HFValidationError):
        return DownloadError(f"{name!r} is not a model’s name: write it as owner/name, as in sesame/csm-1b.")
    if isinstance(error, GatedRepoError):
        if token:
            message = f"Your account has no access to {name} yet: accept its terms at {hub}/{name}, then start again."
        else:
            message = (
                f"{name} has terms to accept: do that at {hub}/{name}, then create a read token at "
                f"{hub}/settings/tokens and enter it here."
            )
        return TokenNeeded(message, name)
    if isinstance(error, RepositoryNotFoundError):
        if token and _is_refused(token):
            return TokenNeeded(
                f"The token is wrong: create a new one at {hub}/settings/tokens and enter it here.", name
            )
        return DownloadError(f"There is no model {name} at {hub}: check its name; a private one needs your token.")
    if isinstance(error, (OfflineModeIsEnabled, LocalEntryNotFoundError)) and constants.HF_HUB_OFFLINE:
        return DownloadError(
            f"{name} is not on this computer, and HF_HUB_OFFLINE is set: unset it to download the model."
        )
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if status in (401, 403):
        return TokenNeeded(f"The token is wrong: create a new one at {hub}/settings/tokens and enter it here.", name)
    if status is not None:
        return DownloadError(f"{hub} answered {status} for {name}: try again later; your progress is saved.")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DownloadError("The disk is full. Free some space, then try again; your progress is saved.")
    if isinstance(error, OSError) and error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return DownloadError(f"{error.filename or constants.HF_HUB_CACHE} cannot be written: change its owner or mode.")
    if isinstance(error, (NotADirectoryError, FileExistsError)):
        return DownloadError(
            f"{constants.HF_HUB_CACHE} is the folder for models, but a part of that path is a file: move the file "
            "away, or set HF_HOME to another folder."
        )
    if isinstance(error, (httpx2.HTTPError, LocalEntryNotFoundError)):
        return DownloadError(
            f"Can’t reach {hub}. Check your internet connection, or set HF_ENDPOINT to a mirror, then try again; "
            "your progress is saved."
        )
    return DownloadError(f"{name} couldn’t be downloaded ({error}). Try again; your progress is saved.")


def _is_refused(token: str | bool) -> bool:
    try:
        HfApi(token=token).whoami()
    except HfHubHTTPError as error:
        return error.response.status_code == 401
    except (httpx2.HTTPError, OSError):
        return False
    return False
