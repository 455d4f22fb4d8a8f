#!/usr/bin/env python3
"""Makes a container image of one layer, as an archive for `ctr images import`, without Docker.

image.py OUT.tar NAME:TAG [--entrypoint WORD]... [--cmd WORD]... [--user N] SOURCE:TARGET[:LINK,LINK...]...

Each SOURCE file is copied to TARGET, owned by root, and each LINK beside TARGET points to it. The same input makes the
same image.
"""

import argparse
import hashlib
import io
import json
import os
import platform
import tarfile

parser = argparse.ArgumentParser(usage=__doc__)
parser.add_argument("out")
parser.add_argument("reference")
parser.add_argument("files", nargs="+")
parser.add_argument("--entrypoint", action="append", default=[])
parser.add_argument("--cmd", action="append", default=[])
parser.add_argument("--user", default="")
args = parser.parse_args()


class Layer:
    """A tar archive that knows which folders it has."""

    def __init__(self):
        self.bytes = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.bytes, mode="w", format=tarfile.GNU_FORMAT)
        self.folders = set()

    def folder(self, path, mode=0o755):
        path = path.strip("/")
        if not path or path in self.folders:
            return
        self.folder(os.path.dirname(path))
        self.folders.add(path)
        entry = tarfile.TarInfo(path)
        entry.type, entry.mode = tarfile.DIRTYPE, mode
        self.tar.addfile(entry)

    def file(self, path, content, size, mode):
        self.folder(os.path.dirname(path))
        entry = tarfile.TarInfo(path.strip("/"))
        entry.size, entry.mode = size, mode
        self.tar.addfile(entry, content)

    def text(self, path, text):
        self.file(path, io.BytesIO(text.encode()), len(text), 0o644)

    def link(self, path, target):
        entry = tarfile.TarInfo(path.strip("/"))
        entry.type, entry.linkname = tarfile.SYMTYPE, target
        self.tar.addfile(entry)


layer = Layer()
layer.folder("tmp", 0o1777)
layer.text("/etc/passwd", "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n")
layer.text("/etc/group", "root:x:0:\nnonroot:x:65532:\n")
for file in args.files:
    source, target, *links = file.split(":")
    with open(source, "rb") as content:
        mode = 0o755 if os.access(source, os.X_OK) else 0o644
        layer.file(target, content, os.path.getsize(source), mode)
    for link in links[0].split(",") if links else []:
        layer.link(os.path.join(os.path.dirname(target), link), os.path.basename(target))
layer.tar.close()
content = layer.bytes.getvalue()

digest = hashlib.sha256(content).hexdigest()
config = json.dumps({
    "architecture": {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine()),
    "os": "linux",
    "config": {
        "Entrypoint": args.entrypoint,
        "Cmd": args.cmd,
        "Env": ["PATH=/usr/local/bin:/usr/bin:/bin"],
        "User": args.user,
        "WorkingDir": "/",
    },
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + digest]},
    "history": [{"created_by": "image.py"}],
}).encode()
name = hashlib.sha256(config).hexdigest() + ".json"
manifest = json.dumps([{"Config": name, "RepoTags": [args.reference], "Layers": [digest + "/layer.tar"]}]).encode()
with tarfile.open(args.out, "w", format=tarfile.GNU_FORMAT) as out:
    for path, data in ((name, config), (digest + "/layer.tar", content), ("manifest.json", manifest)):
        entry = tarfile.TarInfo(path)
        entry.size = len(data)
        out.addfile(entry, io.BytesIO(data))
