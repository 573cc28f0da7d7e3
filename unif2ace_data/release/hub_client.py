"""The Hub's client: its errors in one line, and patience with those that pass.

The token comes from the environment (HF_TOKEN) or from `hf auth login`; the client finds it, and nothing here reads,
prints or passes it on.
"""

from __future__ import annotations

import logging
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from unif2ace_data.errors import UserError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

Result = TypeVar("Result")

TYPE = "dataset"
WAITS = (1.0, 2.0, 4.0, 8.0)  # seconds between tries of what may pass; the client itself has tried some requests before
LONGEST_WAIT = 300.0  # seconds that the Hub may ask for: its rate limits count in windows of five minutes
PASSING = (408, 412, 429, 500, 502, 503, 504)
FULL = re.compile(r"storage|quota|payment|billing|upgrade", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repo: what the Hub knows of its bytes. `sha256` is empty for small files, which have a `git` blob id."""

    bytes: int
    sha256: str
    git: str


@dataclass(frozen=True, slots=True)
class Remote:
    """A repo's main branch at one commit. `gated`: "auto", "manual" or False."""

    head: str
    private: bool
    gated: str | bool
    files: dict[str, RemoteFile]


def hub_client(quiet: bool = False, write: bool = False) -> HfApi:
    """The client for the endpoint and the token of the environment. Raises UserError without the extra or, to write, a token."""
    try:
        import huggingface_hub
        from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]
    except ImportError:
        raise UserError("the Hub needs its client: pip install 'unif2ace[hub]'") from None
    logging.getLogger("huggingface_hub").setLevel(
        logging.ERROR
    )  # its warnings show signed addresses; `patiently` tells of every wait
    if quiet or not sys.stderr.isatty():
        disable_progress_bars()
    api = huggingface_hub.HfApi(library_name="unif2ace")
    if write and not huggingface_hub.get_token():
        raise UserError("no token for the Hub: set HF_TOKEN (a token that may write) or run `hf auth login`")
    return api


def checked_repo(repo: str) -> str:
    """`user/name`, or UserError."""
    if not re.fullmatch(r"[\w][\w.-]*/[\w][\w.-]*", repo, re.ASCII) or "--" in repo or ".." in repo or len(repo) > 96:
        raise UserError(f"{repo!r} is no repo of the Hub: user/name, of letters, digits, '-', '_' and '.'", 2)
    return repo


def look(api: HfApi, repo: str, revision: str | None = None) -> Remote:
    """The repo's files at a revision (its main branch). Raises the client's errors."""
    from huggingface_hub.hf_api import RepoFile

    info = api.dataset_info(repo, revision=revision)
    head = str(info.sha)
    files = {
        entry.path: RemoteFile(entry.size, entry.lfs.sha256 if entry.lfs else "", entry.blob_id)
        for entry in api.list_repo_tree(repo, recursive=True, revision=head, repo_type=TYPE)
        if isinstance(entry, RepoFile)
    }
    return Remote(head, bool(info.private), info.gated or False, files)


def look_if_there(api: HfApi, repo: str) -> Remote | None:
    """The repo, or None where there is none that this token may see."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        return look(api, repo)
    except GatedRepoError:
        raise
    except RepositoryNotFoundError as error:
        if error.response.status_code == 401:  # also what a token that is no longer valid gets
            raise
        return None


# ------------------------------------------------------------------ errors


def patiently(repo: str, work: Callable[[], Result], quiet: bool = False) -> Result:
    """The result of `work`, tried again where the error may pass (WAITS); else UserError. `work` must be repeatable."""
    for wait in (*WAITS, None):
        try:
            return work()
        except Exception as error:
            if not from_hub(error):
                raise
            if wait is None or not may_pass(error):
                raise told(error, repo) from None
            pause(error, wait, quiet)
    raise AssertionError("unreachable")


def pause(error: Exception, wait: float, quiet: bool) -> None:
    """Wait as long as the Hub asks for, or `wait` seconds; a line on stderr says so."""
    wait = max(wait, min(asked_wait(error), LONGEST_WAIT))
    if not quiet:
        print(f"{briefly(error)}: trying again in {wait:.0f} s", file=sys.stderr, flush=True)
    time.sleep(wait)


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it came from: a download wraps a lost connection in `LocalEntryNotFoundError`."""
    while error is not None:
        yield error
        error = error.__cause__


def transport_errors() -> tuple[type[BaseException], ...]:
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # httpx2's; httpx's in older clients

    return (HTTPError, ConnectionError, TimeoutError)


def from_hub(error: Exception) -> bool:
    """Whether the client, its transport or Xet raised this, not a bug of ours or a full disk."""
    from huggingface_hub import errors

    kinds = (
        *transport_errors(), errors.HFValidationError, errors.LocalEntryNotFoundError, errors.LocalTokenNotFoundError,
        errors.FileMetadataError, errors.XetDownloadError,
    )  # fmt: skip
    return any(isinstance(e, kinds) for e in causes(error)) or from_xet(error) or bad_card(error)


def from_xet(error: Exception) -> bool:
    """hf_xet raises plain RuntimeErrors; its own classes tell of tokens and objects."""
    own = type(error).__name__ in ("XetAuthenticationError", "XetObjectNotFoundError")
    return own or (isinstance(error, RuntimeError) and "huggingface_hub" in raised_in(error))


def bad_card(error: Exception) -> bool:
    """The client checks a README.md before it commits it, and says so in a ValueError."""
    return isinstance(error, ValueError) and "huggingface_hub" in raised_in(error)


def raised_in(error: Exception) -> str:
    """The file whose code raised the error (or called the compiled code that did)."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace.tb_frame.f_code.co_filename if trace else ""


def status_of(error: Exception) -> int:
    """The HTTP status of an error, or 0."""
    for cause in causes(error):
        response = getattr(cause, "response", None)
        if response is not None:
            return int(response.status_code)
    return 0


def may_pass(error: Exception) -> bool:
    from huggingface_hub.errors import OfflineModeIsEnabled

    status = status_of(error)
    if any(isinstance(e, OfflineModeIsEnabled) for e in causes(error)):
        return False
    if status:
        return status in PASSING
    return from_xet(error) or any(isinstance(e, transport_errors()) for e in causes(error))


def asked_wait(error: Exception) -> float:
    """Seconds that a 429 or 503 asks for, by `Retry-After` or the Hub's `ratelimit` header; 0 where it does not."""
    for cause in causes(error):
        headers = getattr(getattr(cause, "response", None), "headers", {})
        for name, pattern in (("retry-after", r"^(\d+)$"), ("ratelimit", r"\bt=(\d+)")):
            found = re.search(pattern, headers.get(name, ""))
            if found:
                return float(found[1])
    return 0.0


def briefly(error: Exception) -> str:
    status = status_of(error)
    if status:
        return f"the Hub answers {status}"
    if from_xet(error):
        return f"Xet: {first_line(error)}"
    last = list(causes(error))[-1]
    return f"lost the connection ({type(last).__name__})"


def first_line(error: BaseException) -> str:
    """What the server said, or the first line that says something."""
    said = getattr(error, "server_message", None) or str(error)
    lines = [line.strip() for line in str(said).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


def told(error: Exception, repo: str) -> UserError:
    """One line for a person: what the Hub said, what it means, what to do."""
    from huggingface_hub import errors

    every = list(causes(error))

    def is_a(*kinds: type[BaseException]) -> bool:
        return any(isinstance(e, kinds) for e in every)

    status, said = (
        status_of(error),
        first_line(next((e for e in every if getattr(e, "response", None) is not None), every[-1])),
    )
    kept = "what was sent is kept; run the command again"
    if is_a(errors.OfflineModeIsEnabled):
        return UserError("HF_HUB_OFFLINE is set: unset it to reach the Hub")
    if is_a(errors.LocalTokenNotFoundError):
        return UserError("no token for the Hub: set HF_TOKEN or run `hf auth login`")
    if status in (402, 403, 413, 507) and FULL.search(said):
        return UserError(
            f"{status}: no room for {repo} ({said}). A repo is private until it is whole and counts against the account's "
            f"private storage: free some, or ask for more; {kept}"
        )
    if is_a(errors.GatedRepoError):
        return UserError(
            f"{status}: {repo} is gated: ask for access on its page, and use a token (HF_TOKEN or `hf auth login`) of the "
            "account that was let in"
        )
    if is_a(errors.RevisionNotFoundError):
        return UserError(f"{status}: {repo} has no such revision; its tags stand on its page")
    if is_a(errors.EntryNotFoundError) and status == 404:
        return UserError(f"404: {repo} has no {missing_file(every)}: no whole dataset of unif2ace-data")
    if status == 401 and "credentials" not in said and not has_token():
        return UserError(f"401: no dataset {repo}, or it is private: set HF_TOKEN or run `hf auth login`")
    meaning = {
        400: f"the Hub refuses this: {said}",
        401: "the Hub does not take this token (wrong, expired or revoked): set HF_TOKEN anew or run `hf auth login`",
        403: f"this token may not do that ({said}): it needs write access to {repo}",
        404: f"no dataset {repo} on the Hub, or this token may not see it: check the name",
        409: f"something else stands in the way in {repo} ({said}): look at its page, then run the command again",
        412: f"somebody else changes {repo} at the same time: {kept} when they are done",
        413: f"too large for the Hub ({said}): build smaller shards (--set shards.max_bytes=…)",
        429: f"the Hub's rate limit: wait some minutes; {kept}",
    }
    if status in meaning:
        return UserError(f"{status}: {meaning[status]}")
    if status >= 500:
        return UserError(f"{status}: the Hub has trouble ({said}): {kept} later")
    if status:
        return UserError(f"{status}: {said}")
    if from_xet(error):
        return UserError(f"the transfer through Xet failed ({said}): {kept}; HF_HUB_DISABLE_XET=1 goes without it")
    if bad_card(error) or is_a(errors.HFValidationError):
        return UserError(f"the Hub's client refuses this: {' '.join(str(error).split())[:300]}")
    return UserError(f"lost the connection to the Hub ({type(every[-1]).__name__}: {said}): {kept}")


def has_token() -> bool:
    from huggingface_hub import get_token

    return bool(get_token())


def missing_file(errors: list[BaseException]) -> str:
    addresses: list[Any] = [getattr(getattr(e, "response", None), "url", "") for e in errors]
    names = [str(address).rpartition("/")[2].partition("?")[0] for address in addresses]
    return next((name for name in names if name), "such file")
