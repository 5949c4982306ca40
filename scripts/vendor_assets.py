"""Fetch the browser libraries that the dashboard serves, so that users need no Node and the page no third-party host.

Needs npm. Run it after changing a version here, and commit what it writes.
"""

from __future__ import annotations

import json
import subprocess
import tarfile
import tempfile
from pathlib import Path

TARGET = Path(__file__).parent.parent / "src/lastseen/server/pages/static/vendor"

PACKAGES = {
    ("uplot", "1.6.32"): ("dist/uPlot.iife.min.js", "dist/uPlot.min.css"),
    ("idiomorph", "0.8.0"): ("dist/idiomorph.min.js",),
    # Served on the page to try the API, and there alone; Apache-2.0 wants its notice to come along.
    ("swagger-ui-dist", "5.35.0"): (
        "swagger-ui-bundle.js",
        "swagger-ui-bundle.js.LICENSE.txt",
        "swagger-ui.css",
        "NOTICE",
    ),
}


def main() -> None:
    """Replace the vendored files by those of the versions above, each with its licence."""
    TARGET.mkdir(parents=True, exist_ok=True)
    versions = {}
    for (name, version), files in PACKAGES.items():
        with tempfile.TemporaryDirectory() as folder:
            package = _fetch(name, version, Path(folder))
            for file in files:
                target = f"{name}.NOTICE" if file == "NOTICE" else Path(file).name
                (TARGET / target).write_bytes(_read(package, file))
            (TARGET / f"{name}.LICENSE").write_bytes(_read(package, "LICENSE"))
            described = json.loads(_read(package, "package.json"))
        versions[name] = {"version": described["version"], "licence": described["license"], "files": list(files)}
        print(f"{name} {version}: {', '.join(files)}")
    (TARGET / "VERSIONS.json").write_text(json.dumps(versions, indent=2) + "\n")


def _fetch(name: str, version: str, folder: Path) -> Path:
    subprocess.run(
        ["npm", "pack", "--silent", f"{name}@{version}", "--pack-destination", str(folder)],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return next(folder.glob("*.tgz"))


def _read(package: Path, file: str) -> bytes:
    with tarfile.open(package) as archive:
        found = archive.extractfile(f"package/{file}")
        if found is None:
            raise FileNotFoundError(file)
        return found.read()


if __name__ == "__main__":
    main()
