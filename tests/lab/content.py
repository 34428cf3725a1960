"""Content folders with known bytes, and an independent oracle for their hash."""

import hashlib
import os
import random

# What a real package has and a careless client trips over.
AWKWARD = (
    "setup.exe", "readme.txt", "empty.dat", "sub/tools.msi",
    "sub/deep/er/still/leaf.bin", "with space/a file (1).txt",
    "ümlaut/größe.dat", "日本語/ファイル.bin", "percent%20sign+plus&amp.txt",
    "app.config", "bin/web.config", "hash#tag;semi=eq.txt", "UPPER.TXT",
    "aux.txt", "$dollar/[brackets].txt", "quote'one.txt",
)

STEP = 1 << 20


class Content:
    """A folder of content: path, files (relative, sorted bytewise), hash, total."""

    def __init__(self, path):
        self.path = path
        self.name = os.path.basename(path)
        self.files = files(path)
        self.sizes = {f: os.path.getsize(os.path.join(path, f)) for f in self.files}
        self.total = sum(self.sizes.values())
        self.digests = {f: file_hash(os.path.join(path, f)) for f in self.files}
        self.listing = "".join(
            "%s  %s\n" % (self.digests[f], f) for f in self.files).encode()
        self.hash = "sha256:" + hashlib.sha256(self.listing).hexdigest()

    def read(self, name):
        with open(os.path.join(self.path, name), "rb") as stream:
            return stream.read()


def files(folder):
    """Relative paths of all regular files, sorted bytewise."""
    found = []
    for base, _, names in os.walk(folder):
        found += [os.path.relpath(os.path.join(base, n), folder) for n in names]
    return sorted(found, key=os.fsencode)


def file_hash(path):
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(STEP), b""):
            digest.update(block)
    return digest.hexdigest()


def folder_hash(folder):
    """The content hash of a folder, as section 5 of the contract defines it."""
    listing = "".join("%s  %s\n" % (file_hash(os.path.join(folder, f)), f)
                      for f in files(folder))
    return "sha256:" + hashlib.sha256(listing.encode()).hexdigest()


def make(path, files=AWKWARD, total=1 << 20, seed=None):
    """Write a content folder and return it as Content.

    files  list of names (sizes are shared out of `total`), a number of files to
           name and spread over folders, or a dict of name -> size or bytes
    The same arguments give the same bytes, everywhere and at every run.
    """
    numbers = random.Random(seed if seed is not None else os.path.basename(path))
    if isinstance(files, int):
        files = ["part%02d/file%04d.bin" % (n % 20, n) for n in range(files)]
    if not isinstance(files, dict):
        files = _share(list(files), total, numbers)
    for name, what in files.items():
        target = os.path.join(path, name)
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as stream:
            if isinstance(what, bytes):
                stream.write(what)
            else:
                for at in range(0, what, STEP):
                    stream.write(numbers.randbytes(min(STEP, what - at)))
    os.makedirs(path, exist_ok=True)
    return Content(path)


def _share(names, total, numbers):
    """Unequal sizes that add up to total; names with `empty` get nothing."""
    filled = [n for n in names if "empty" not in n] or names
    weights = [numbers.uniform(0.2, 1.8) for _ in filled]
    sizes = [int(total * w / sum(weights)) for w in weights]
    sizes[-1] += total - sum(sizes)
    return {**{n: 0 for n in names}, **dict(zip(filled, sizes))}


def tamper(path, offset=None):
    """Flip one bit of a file, its length and times kept."""
    times = os.stat(path)
    with open(path, "r+b") as stream:
        stream.seek(times.st_size // 2 if offset is None else offset)
        byte = stream.read(1)
        stream.seek(-1, os.SEEK_CUR)
        stream.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
