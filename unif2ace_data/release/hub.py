"""`publish`: a verified dataset to a dataset repo of the Hugging Face Hub; and what `remove --published` needs of it.

Or its annotations alone, which have an index of their own. What leaves is what index.json names, and index.json, last.
What the repo lacks is found by comparing hashes, at every step anew, so that a run may end anywhere and the next one sends
what is missing. A repo starts private and is opened when its checksums are ours; in one that is public already, the change
arrives in one commit.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from unif2ace_data.curate.licences import check_release
from unif2ace_data.errors import UserError
from unif2ace_data.release.hub_client import (
    TYPE,
    WAITS,
    Remote,
    checked_repo,
    from_hub,
    hub_client,
    look,
    look_if_there,
    may_pass,
    patiently,
    pause,
    told,
)
from unif2ace_data.release.hub_plan import (
    Leaving,
    LocalFile,
    Plan,
    annotations_leaving,
    check_whole,
    compare,
    dataset_leaving,
    kind_of,
)

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi

Gated = Literal["auto", "manual"]

# A commit of a private repo holds this much at most, so that little is in the air when the line drops (our choice).
BATCH_FILES = 100
BATCH_BYTES = 10_000_000_000


def publish(
    out: Path,
    repo: str,
    private: bool | None = False,
    gated: Gated | None = None,
    tag: str | None = None,
    dry_run: bool = False,
    quiet: bool = False,
    annotations_only: bool = False,
) -> dict[str, Any]:
    """Make the dataset repo `repo` hold exactly the dataset at `out`; returns what was done (or would be).

    `annotations_only`: its annotations, without a picture. `private` None and `gated` None leave an existing repo's
    setting. Raises UserError.
    """
    checked_repo(repo)
    api = hub_client(quiet, write=True)
    check_whole(out)
    check_release(out, annotations_only)
    release = annotations_leaving(out) if annotations_only else dataset_leaving(out)
    files = release.files
    before = patiently(repo, lambda: may_write(api, repo), quiet)
    check_kind(release, before, repo)
    plan = compare(files, before)
    if tag:
        check_tag(patiently(repo, lambda: tags(api, repo) if before else {}, quiet), tag, before, plan, repo)
    answer = told_plan(release, repo, api, plan)
    if dry_run:
        visibility = "private" if (private if private is not None else before is None or before.private) else "public"
        return {**answer, "visibility": visibility, "dry_run": True}
    if before is None:
        patiently(repo, lambda: api.create_repo(repo, private=True, repo_type=TYPE, exist_ok=True), quiet)
    elif private and not before.private:
        settle(api, repo, before, True, None, quiet)
    now, commits = upload(api, repo, files, quiet)
    settle(api, repo, now, private, gated, quiet)
    if tag:
        patiently(repo, lambda: ensure_tag(api, repo, tag, now.head), quiet)
    final = patiently(repo, lambda: look(api, repo), quiet)
    return {
        **answer,
        "dry_run": False,
        "commits": commits,
        "commit": now.head,
        "visibility": "private" if final.private else "public",
        "gated": final.gated,
        "tag": tag,
    }


def check_kind(release: Leaving, before: Remote | None, repo: str) -> None:
    """Raises UserError where the repo holds the other kind: pictures that were replaced would live on in its history."""
    there = kind_of(before.files) if before else None
    if there == "dataset" and release.kind == "annotations":
        raise UserError(
            f"{repo} holds a dataset with its pictures, and so does its history: publish the annotations to a repo of their "
            "own, and delete this one if its pictures may not be shown"
        )
    if there == "annotations" and release.kind == "dataset":
        raise UserError(
            f"{repo} holds annotations without pictures: give --annotations-only, or publish the pictures to another repo"
        )


def told_plan(release: Leaving, repo: str, api: HfApi, plan: Plan) -> dict[str, Any]:
    folder, files = release.folder, release.files
    present = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    return {
        "repo": repo,
        "url": f"{api.endpoint}/datasets/{repo}",
        "kind": release.kind,
        "root_sha256": release.root_sha256,
        "new": plan.new,
        "changed": plan.changed,
        "same": plan.same,
        "gone": plan.gone,
        "kept": [name for name in plan.kept if name != ".gitattributes"],
        "bytes_to_send": sum(files[name].bytes for name in plan.send),
        "left_here": len(present - set(files)),
    }


# ------------------------------------------------------------------ sending


def may_write(api: HfApi, repo: str) -> Remote | None:
    """The repo as it is, or None where it is to be made; raises the client's error where this token may not write."""
    remote = look_if_there(api, repo)
    if remote is not None:
        api.auth_check(repo, repo_type=TYPE, write=True)
        return remote
    me = api.whoami()
    spaces = {me["name"], *(org["name"] for org in me.get("orgs", []))}
    if repo.split("/")[0] not in spaces:
        raise UserError(f"no dataset {repo}, and this token of {me['name']} cannot make one there")
    return None


def upload(api: HfApi, repo: str, files: dict[str, LocalFile], quiet: bool) -> tuple[Remote, int]:
    """Send and commit until the repo's checksums are ours; returns the repo as it then is, and the number of commits.

    Each try begins with what the repo holds by now: a commit whose answer was lost is not made again.
    """
    commits, failures, least = 0, 0, len(files) + 1
    while True:
        now = patiently(repo, lambda: look(api, repo), quiet)
        plan = compare(files, now)
        if plan.done:
            return now, commits
        left = len(plan.send) + len(plan.gone)
        failures = 0 if left < least else failures + 1
        least = min(least, left)
        if failures > len(WAITS):
            name = (plan.send + plan.gone)[0]
            raise UserError(
                f"{repo} does not take {name}: after {failures} commits it is not what lies here (does a .gitignore there "
                "name it?). The repo stays as it is; tags and visibility were not touched"
            )
        try:
            commit(api, repo, files, plan, now)
            commits += 1
        except Exception as error:
            if not from_hub(error):
                raise
            if not may_pass(error) or failures == len(WAITS):
                raise told(error, repo) from None
            pause(error, WAITS[failures], quiet)


def commit(api: HfApi, repo: str, files: dict[str, LocalFile], plan: Plan, now: Remote) -> None:
    """The next batch as a commit; in a public repo everything in one, so that nobody reads half a release."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    groups = list(batches(plan.send, files)) or [[]]
    chosen = groups[:1] if now.private else groups
    sent: list[CommitOperationAdd] = []
    for group in chosen:
        additions = [CommitOperationAdd(name, str(files[name].path)) for name in group]
        if len(chosen) > 1:
            api.preupload_lfs_files(repo, additions, repo_type=TYPE, free_memory=False)
        sent += additions
    gone = [CommitOperationDelete(name) for name in plan.gone] if len(chosen) == len(groups) else []
    message = f"{len(sent)} files of a dataset" + (f", {len(gone)} removed" if gone else "")
    api.create_commit(repo, [*sent, *gone], commit_message=message, repo_type=TYPE, parent_commit=now.head)


def batches(names: list[str], files: dict[str, LocalFile]) -> Iterator[list[str]]:
    batch: list[str] = []
    for name in names:
        if batch and (len(batch) == BATCH_FILES or sum(files[n].bytes for n in [*batch, name]) > BATCH_BYTES):
            yield batch
            batch = []
        batch.append(name)
    if batch:
        yield batch


# ------------------------------------------------------------------ visibility and tags


def settle(api: HfApi, repo: str, now: Remote, private: bool | None, gated: Gated | None, quiet: bool) -> None:
    """Visibility and gating in one request, so that a gated dataset is at no moment open; none where they are right."""
    gate_to = gated if gated and gated != now.gated else None
    private_to = private if private is not None and private != now.private else None
    if gate_to is not None or private_to is not None:
        patiently(
            repo, lambda: api.update_repo_settings(repo, repo_type=TYPE, private=private_to, gated=gate_to), quiet
        )


def tags(api: HfApi, repo: str) -> dict[str, str]:
    return {tag.name: tag.target_commit for tag in api.list_repo_refs(repo, repo_type=TYPE).tags}


def check_tag(there: dict[str, str], tag: str, before: Remote | None, plan: Plan, repo: str) -> None:
    """Before anything is sent: a tag that exists must be on what would be published."""
    if not re.fullmatch(r"\w[\w.-]*", tag, re.ASCII) or ".." in tag or tag.endswith((".", ".lock")):
        raise UserError(f"--tag {tag!r}: letters, digits, '.', '-' and '_'", 2)
    if tag in there and (not plan.done or before is None or there[tag] != before.head):
        raise UserError(
            f"{repo} has a tag {tag} already, on other files or an older commit: a release keeps its name; choose another --tag"
        )


def ensure_tag(api: HfApi, repo: str, tag: str, head: str) -> None:
    """The tag on `head`, made where it is missing."""
    on = tags(api, repo).get(tag)
    if on is None:
        api.create_tag(repo, tag=tag, revision=head, repo_type=TYPE, exist_ok=True)
        on = tags(api, repo).get(tag)
    if on != head:
        raise UserError(f"{repo} has a tag {tag} already, on another commit: choose another --tag")


# ------------------------------------------------------------------ removal


def republish_without(out: Path, repo: str, tag: str | None = None, quiet: bool = False) -> dict[str, Any]:
    """Publish `out`, from which samples were removed, over `repo`, and leave no older version of it there.

    Where the repo holds annotations, theirs are published. Visibility and gating stay as they are. Returns
    {"published": …, "purged": the receipt of `purge_history`}. Run again after an interruption. Raises UserError, also
    where there is no such repo, or nothing in it that tells which of the two it is for.
    """
    api = hub_client(quiet, write=True)
    there = patiently(repo, lambda: look_if_there(api, checked_repo(repo)), quiet)
    if there is None:
        raise UserError(f"no dataset {repo} on the Hub that this token may see: nothing to remove there")
    kind = kind_of(there.files)
    if kind is None:
        raise UserError(
            f"{repo} holds neither a dataset nor annotations of unif2ace-data: nothing was removed there. Should its history "
            "hold some, `publish` to it (with --annotations-only, if it was annotations) and run this again"
        )
    published = publish(out, repo, private=None, quiet=quiet, annotations_only=kind == "annotations")
    return {"published": published, "purged": purge_history(repo, tag, quiet)}


def purge_history(repo: str, tag: str | None = None, quiet: bool = False) -> dict[str, Any]:
    """Leave only what the main branch of `repo` holds now; returns a receipt.

    Every tag and every other branch goes, the history becomes one commit, large files that it does not name are deleted
    for good, and `tag`, if given, is set on it. Cannot be undone. Run again after an interruption; the receipt then tells of
    the rest. Raises UserError.
    """
    checked_repo(repo)
    api = hub_client(quiet, write=True)

    def step(work: Callable[[], Any]) -> Any:
        return patiently(repo, work, quiet)

    def named_refs(kind: str) -> dict[str, str]:
        return {r.name: r.target_commit for r in getattr(api.list_repo_refs(repo, repo_type=TYPE), kind)}

    def delete_tags() -> None:
        for name in named_refs("tags"):
            api.delete_tag(repo, tag=name, repo_type=TYPE)

    def delete_branches() -> None:
        for name in named_refs("branches"):
            if name != "main":
                api.delete_branch(repo, branch=name, repo_type=TYPE)

    before = step(lambda: look(api, repo))
    old_tags, old_branches = step(lambda: named_refs("tags")), step(lambda: named_refs("branches"))
    history = step(lambda: [commit.commit_id for commit in api.list_repo_commits(repo, repo_type=TYPE)])
    step(delete_tags)
    step(delete_branches)
    if len(history) > 1:
        step(lambda: api.super_squash_history(repo, commit_message="One version", repo_type=TYPE))
    now = step(lambda: look(api, repo))
    if now.files != before.files:
        raise UserError(
            f"{repo} was changed while its history was cut: nothing more was deleted; run the command again"
        )
    named = {file.sha256 for file in now.files.values()}

    def unnamed() -> list[Any]:
        return [file for file in api.list_lfs_files(repo, repo_type=TYPE) if file.file_oid not in named]

    objects = step(unnamed)
    step(lambda: api.permanently_delete_lfs_files(repo, unnamed(), repo_type=TYPE))
    still = step(unnamed)
    now = step(lambda: look(api, repo))
    if tag:
        step(lambda: ensure_tag(api, repo, tag, now.head))
    refs = step(lambda: api.list_repo_refs(repo, repo_type=TYPE, include_pull_requests=True))
    left = [ref.ref for ref in [*(refs.pull_requests or []), *refs.converts]]
    return {
        "repo": repo,
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "head": now.head,
        "tags_deleted": old_tags,
        "branches_deleted": {name: head for name, head in old_branches.items() if name != "main"},
        "commits_dropped": [oid for oid in history if oid != now.head],
        "objects_deleted": [
            {"sha256": o.file_oid, "bytes": o.size, "name": o.filename} for o in objects if o not in still
        ],
        "objects_left": [o.file_oid for o in still],
        "tag": tag if tag else None,
        "refs_left": left,
        "cannot_be_undone": cannot_be_undone(left),
    }


def cannot_be_undone(refs_left: list[str]) -> list[str]:
    """What a deletion on the Hub does not reach, for the person who asked for it and the one who answers."""
    said = [
        "copies that others downloaded, and their caches, keep the removed files; tell known users to pull again and delete",
        "forks and duplicates of the repo are repos of their own: their owners must remove them there",
        "for a while, the Hub's delivery network may serve a removed file by an address that was given out",
        "old tags and commit ids no longer resolve; what was pinned to them breaks, and that is meant",
    ]
    if refs_left:
        said.append(
            f"{', '.join(refs_left)} stay: the Hub keeps pull requests and its own conversions; close and delete them on the "
            "repo's page, or ask the Hub's support"
        )
    return said
