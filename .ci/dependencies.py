#!/usr/bin/env python3
"""Holds the directions of ARCHITECTURE.md: which crate may depend on which, which module of a service may use which, and no circle of files.

.ci/dependencies_test.py plants a violation of each rule and expects it to be found.
"""

import json
import subprocess
import sys
from pathlib import Path

from rust_uses import Arrow, Crate, circles

SERVICES = {"registry-svc", "credential-svc", "orchestrator-svc", "gateway-svc"}
FOR_SERVICES = {"contracts", "service-kit", "registry-model", "registry-client"}
# Each crate of the workspace and what it may depend on. A new crate must be added here, which is a decision.
ALLOWED = {
    "contracts": set(),
    "masking": set(),
    "service-kit": set(),
    "sandbox": set(),
    "stdio-bridge": {"masking", "sandbox"},
    "registry-model": {"contracts", "masking"},
    "registry-client": {"contracts", "service-kit"},
    "registry-svc": FOR_SERVICES - {"registry-client"},
    "credential-svc": FOR_SERVICES | {"masking"},
    "gateway-svc": FOR_SERVICES | {"masking"},
    "orchestrator-svc": FOR_SERVICES | {"masking", "sandbox", "stdio-bridge"},
    "chandlery": SERVICES | FOR_SERVICES | {"stdio-bridge"},
    "integration-tests": SERVICES | FOR_SERVICES | {"sandbox", "stdio-bridge", "chandlery"},
}
# What only the owners of a database, or only the servers of gRPC, need.
BANNED = {
    "sqlx": {"orchestrator-svc", "gateway-svc"} | {"masking", "service-kit", "sandbox", "stdio-bridge", "registry-model", "registry-client", "contracts"},
    "tonic": {"masking", "sandbox", "stdio-bridge", "registry-model"},
}

ALL = "*"
# Each top-level module of a service and the others it may use. A new module must be added here, which is a decision.
MODULES = {
    "registry-svc": {
        "app": {ALL},
        "api": {"operate", "domain"},
        "operate": {"store", "domain", "config"},
        "store": {"domain", "config"},
        "domain": set(),
        "config": set(),
    },
    "credential-svc": {
        "app": {ALL},
        "api": {"convert", "domain"},
        "registry": {"convert", "domain", "health"},
        "store": {"domain", "config"},
        # Talks to authorization servers.
        "oauth": {"domain"},
        "convert": {"domain"},
        "health": {"domain"},
        "domain": set(),
        "config": set(),
    },
    "orchestrator-svc": {
        "app": {ALL},
        "api": {"reconcile", "domain"},
        "reconcile": {"domain"},
        "runtime": {"domain", "config"},
        "domain": set(),
        "config": set(),
    },
    # A tool call comes in by `api` or `mcp`; `calls` takes it by way of `resolve` and `vend` to `upstream`.
    "gateway-svc": {
        "app": {ALL},
        "api": {"calls", "discovery", "identity", "listing", "resolve", "snapshot", "domain", "json"},
        "mcp": {"calls", "identity", "listing", "resolve", "snapshot", "upstream", "domain", "json", "buffers", "config"},
        "pages": {"facade", "oidc", "seal", "buffers", "sentence"},
        # The authorization server for MCP clients.
        "facade": {"oidc", "seal", "upstream", "snapshot", "domain"},
        "discovery": {"calls", "vend", "upstream", "snapshot", "domain"},
        "calls": {"resolve", "route", "vend", "upstream", "snapshot", "domain", "json"},
        "identity": {"facade", "snapshot", "domain"},
        # Lists that those share who see the same, and what is found in them.
        "listing": {"resolve", "search", "snapshot", "route", "domain"},
        "search": set(),
        "resolve": {"snapshot", "route", "domain", "sentence"},
        "snapshot": {"route", "domain"},
        "vend": {"domain"},
        "route": {"domain"},
        "upstream": {"json"},
        "domain": {"json"},
        "json": set(),
        "buffers": set(),
        "oidc": set(),
        "seal": set(),
        "sentence": set(),
        "config": set(),
    },
}
# Crates that a module of a service must not name: a domain knows neither transport nor database, only `store` knows SQL.
TRANSPORTS = {"tonic", "axum", "hyper", "reqwest"}
BANNED_IN = {
    "registry-svc": {"domain": {"sqlx"} | TRANSPORTS, "operate": {"sqlx"} | TRANSPORTS, "api": {"sqlx"}, "store": TRANSPORTS},
    "credential-svc": {"domain": {"sqlx"} | TRANSPORTS, "api": {"sqlx"}, "registry": {"sqlx"}, "store": TRANSPORTS - {"reqwest"}, "oauth": {"sqlx", "tonic"}},
    "orchestrator-svc": {"domain": {"nix", "contracts", "stdio_bridge", "sandbox"} | TRANSPORTS, "reconcile": {"stdio_bridge", "sandbox"}, "runtime": {"contracts"} | TRANSPORTS},
    "gateway-svc": {module: TRANSPORTS for module in ("domain", "json", "route", "resolve")},
}
# What does not hold yet: to be mended, and removed here. (crate, from, to): a module uses another module, or a crate.
MODULE_EXCEPTIONS: set[tuple[str, str, str]] = set()
# (from, to): arrows between files that close a circle.
FILE_EXCEPTIONS: set[tuple[str, str]] = set()


def crate_faults(packages: dict[str, dict]) -> list[str]:
    """Dependencies of crates that are not allowed."""
    faults = [f"{name}: say in .ci/dependencies.py what it may depend on" for name in packages if name not in ALLOWED]
    for name, package in packages.items():
        for dependency in package["dependencies"]:
            other = dependency["name"]
            # A test may use what the code may not, except another service.
            test = dependency["kind"] == "dev"
            if other in packages and other not in ALLOWED.get(name, set()) and not (test and other not in SERVICES):
                faults.append(f"{name} must not depend on {other}")
            if not test and name in BANNED.get(other, set()):
                faults.append(f"{name} must not depend on {other}")
    return faults


def module_faults(name: str, crate: Crate, base: Path, used: set) -> list[str]:
    """Uses between the top-level modules of a service, and of other crates, that are not allowed; `used` gets the exceptions that were needed."""
    allowed, banned = MODULES[name], BANNED_IN.get(name, {})
    faults = [f"{name}: say in .ci/dependencies.py what `{module}` may use" for module in crate.root.children if module not in allowed]
    for arrow in crate.arrows():
        source, target = arrow.source[:1], arrow.target[:1]
        # The root of the crate names what others may see of it.
        if not source or source == target:
            continue
        source, target = source[0], target[0] if target else "the crate's root"
        if {target, ALL} & allowed.get(source, {ALL}):
            continue
        if (name, source, target) in MODULE_EXCEPTIONS:
            used.add((name, source, target))
            continue
        faults.append(f"{arrow.file.relative_to(base)}:{arrow.line}: `{source}` must not use `{target}` ({arrow.name or 'the module'})")
    for use in crate.externals():
        source = use.source[0] if use.source else ""
        if use.crate not in banned.get(source, set()):
            continue
        if (name, source, use.crate) in MODULE_EXCEPTIONS:
            used.add((name, source, use.crate))
            continue
        faults.append(f"{use.file.relative_to(base)}:{use.line}: `{source}` must not use the crate {use.crate}")
    return faults


def circle_faults(crate: Crate, base: Path, used: set) -> list[str]:
    """Circles between files; `used` gets the exceptions that were needed."""
    def ends(arrow: Arrow) -> tuple[str, str]:
        return str(arrow.file.relative_to(base)), str(arrow.target_file.relative_to(base))

    arrows = crate.arrows()
    used |= {ends(arrow) for arrow in arrows if ends(arrow) in FILE_EXCEPTIONS}
    arrows = [arrow for arrow in arrows if ends(arrow) not in FILE_EXCEPTIONS]
    faults = []
    for group in circles(arrows):
        names: dict[tuple[str, str], set[str]] = {}
        for arrow in arrows:
            if arrow.file in group and arrow.target_file in group:
                names.setdefault(ends(arrow), set()).add(arrow.name or "the module")
        lines = [f"  {source} uses {', '.join(sorted(found))} of {target}" for (source, target), found in sorted(names.items())]
        faults.append("\n".join([f"a circle of {len(group)} files", *lines]))
    return faults


def main() -> int:
    metadata = json.loads(
        subprocess.run(
            ["cargo", "metadata", "--format-version", "1", "--no-deps"], check=True, stdout=subprocess.PIPE
        ).stdout
    )
    base = Path(metadata["workspace_root"])
    packages = {package["name"]: package for package in metadata["packages"]}
    faults, used, files = crate_faults(packages), set(), 0
    for name, package in packages.items():
        for target in package["targets"]:
            if {"test", "custom-build"} & set(target["kind"]):
                continue
            crate = Crate(Path(target["src_path"]))
            files += len({module.file for module in crate.modules.values()})
            faults += circle_faults(crate, base, used)
            if name in SERVICES and "lib" in target["kind"]:
                faults += module_faults(name, crate, base, used)
    faults += [f"the exception {exception} is not needed: remove it" for exception in sorted((MODULE_EXCEPTIONS | FILE_EXCEPTIONS) - used)]
    for fault in sorted(set(faults)):
        print(f"error: {fault}")
    print(f"{len(packages)} crates, {files} files, {len(set(faults))} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
