#!/usr/bin/env python3
"""Holds the directions of architecture.md: which crate of the workspace may depend on which."""

import json
import subprocess
import sys

SERVICES = {"registry-svc", "credential-svc", "orchestrator-svc", "gateway-svc"}
FOR_SERVICES = {"contracts", "service-kit", "registry-model", "registry-client"}
# Each crate of the workspace and what it may depend on. A new crate must be added here, which is a decision.
ALLOWED = {
    "contracts": set(),
    "service-kit": set(),
    "sandbox": set(),
    "stdio-bridge": {"sandbox"},
    "registry-model": {"contracts"},
    "registry-client": {"contracts", "service-kit"},
    "registry-svc": FOR_SERVICES - {"registry-client"},
    "credential-svc": FOR_SERVICES,
    "gateway-svc": FOR_SERVICES,
    "orchestrator-svc": FOR_SERVICES | {"sandbox", "stdio-bridge"},
    "chandlery": SERVICES | FOR_SERVICES | {"stdio-bridge"},
    "integration-tests": SERVICES | FOR_SERVICES | {"sandbox", "stdio-bridge", "chandlery"},
}
# What only the owners of a database, or only the servers of gRPC, need.
BANNED = {
    "sqlx": {"orchestrator-svc", "gateway-svc"} | {"service-kit", "sandbox", "stdio-bridge", "registry-model", "registry-client", "contracts"},
    "tonic": {"sandbox", "stdio-bridge", "registry-model"},
}


def main() -> int:
    metadata = json.loads(
        subprocess.run(
            ["cargo", "metadata", "--format-version", "1", "--no-deps"], check=True, stdout=subprocess.PIPE
        ).stdout
    )
    packages = {package["name"]: package for package in metadata["packages"]}
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
    for fault in sorted(set(faults)):
        print(f"error: {fault}")
    print(f"{len(packages)} crates, {len(set(faults))} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
