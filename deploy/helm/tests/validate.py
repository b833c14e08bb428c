#!/usr/bin/env python3
"""Is every manifest on standard input one that Kubernetes takes? Held against its own schemas, offline.

  helm template … | deploy/helm/tests/validate.py 1.27 1.34

Kinds of others (ServiceMonitor, PrometheusRule) have none here, and are named as left out.
"""

import sys

import kubernetes_validate
import yaml

OTHERS = "monitoring.coreos.com/"


def main():
    versions = sys.argv[1:] or sys.exit(__doc__)
    faults, checked = [], 0
    for manifest in filter(None, yaml.safe_load_all(sys.stdin)):
        name = f"{manifest['kind']} {manifest['metadata']['name']}"
        if manifest["apiVersion"].startswith(OTHERS):
            print(f"left out: {name}")
            continue
        for version in versions:
            try:
                kubernetes_validate.validate(manifest, version, strict=True)
                checked += 1
            except Exception as fault:  # whatever it is, the manifest is not known to be good
                faults.append(f"{name} at {version}: {fault}")
    print(f"{checked} checks")
    if not checked:
        faults.append("found no manifest, expected some")
    sys.exit("\n".join(faults) or 0)


if __name__ == "__main__":
    main()
