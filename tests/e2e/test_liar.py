#!/usr/bin/env python3
"""The real keeper with a network role that lies about every field (docs/security.md).

Whatever it says, the cache holds either nothing or exactly the content that
policy's hash names, and nothing outside of the lab's folder changes.
"""
import argparse
import concurrent.futures
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile

FILES = {"hello.txt": b"hello\n", "sub/world.txt": b"world\n"}
EVIL = "/tmp/agent-liar"


def content_hash():
    lines = "".join("%s  %s\n" % (hashlib.sha256(FILES[p]).hexdigest(), p) for p in sorted(FILES))
    return hashlib.sha256(lines.encode()).hexdigest()


def lies():
    """Every field of every message that net sends, from agent/wire.h."""
    text = open("agent/wire.h", encoding="ascii").read()
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    for name in ("ready note attempt location located entry listed head data fetched done").split():
        body = re.search(r"#define WIRE_FIELDS_%s\(U, S\)((?:.*\\\n)*.*)\n" % name, text).group(1)
        fields = re.findall(r"\b[US]\((\w+)", body)
        for number, field in enumerate(fields):
            for mutation in "zero more max beyond ones".split():
                yield "%s-%d-%s" % (name, number, mutation), "%s.%s %s" % (name, field, mutation)
        for mutation in "short long type twice die".split():
            yield "%s-0-%s" % (name, mutation), "%s %s" % (name, mutation)
    for name in ("located", "entry", "listed", "head", "data"):
        yield "%s-0-skip" % name, "%s skip" % name
    yield "bytes-0-x", "wrong bytes"
    yield "swap-0-x", "bytes swapped in the ring"


def setup(folder, lie):
    for sub in ("policy.d", "cache", "state", "log"):
        os.mkdir(os.path.join(folder, sub), 0o700)
    with open(os.path.join(folder, "agent.conf"), "w", encoding="ascii") as f:
        f.write("[site]\nmanagement_point = http://%s.test\nforest = %s.test\n" % (lie, lie))
        f.write("[policy]\nsource = %s/policy.d\n[cache]\ndirectory = %s/cache\nmin_free = 0\n" % (folder, folder))
        f.write("[state]\ndirectory = %s/state\n[log]\ndirectory = %s/log\n" % (folder, folder))
        f.write("[transfer]\nattempts = 1\n[control]\nsocket =\n")
    with open(os.path.join(folder, "policy.d", "a.ini"), "w", encoding="ascii") as f:
        f.write("[deployment]\npackage = ABC00042\nversion = 3\n[content]\nhash = sha256:%s\n" % content_hash())


def published(folder):
    top = os.path.join(folder, "cache", "content")
    found = {}
    for root, _, names in os.walk(top):
        for name in names:
            path = os.path.join(root, name)
            found[os.path.relpath(path, top)] = open(path, "rb").read()
    return found


def run(agent, lie):
    folder = tempfile.mkdtemp(prefix="agent-liar-")
    try:
        setup(folder, lie)
        p = subprocess.run([agent, "--config", folder + "/agent.conf", "--download", "ABC00042"],
                           capture_output=True, timeout=60, check=False)
        good = {"ABC00042.3/" + k: v for k, v in FILES.items()}
        have = published(folder)
        if p.returncode < 0 or p.returncode in (134, 139):
            return "keeper ended by a signal: %d\n%s" % (p.returncode, p.stderr.decode(errors="replace"))
        if p.returncode == 0 and have != good:
            return "status 0, but the cache holds %s" % sorted(have)
        if p.returncode != 0 and have:
            return "status %d, but the cache holds %s" % (p.returncode, sorted(have))
        if os.path.lexists(EVIL):
            return "a file outside of the cache was made"
        if b"\033[2J" in p.stderr + p.stdout:
            return "raw escape sequence on the terminal"
        if p.returncode != 0 and not p.stderr.strip():
            return "no message"
        return (p.returncode, p.stderr.decode(errors="replace"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--agent", default="build/agent")
    args = parser.parse_args()
    agent = os.path.join(os.path.dirname(args.agent), "tests/liar/agent")
    passed = failed = 0
    honest = run(agent, "none-0-x")
    cases = list(lies())
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda c: run(agent, c[0]), cases))
    checks = [("honest", None if honest[0] == 0 else str(honest))]
    for (_, what), result in zip(cases, results):
        checks.append((what, result if isinstance(result, str) else None))
    # these must be caught, not merely be harmless
    for (_, what), result in zip(cases, results):
        if what in ("wrong bytes", "data.offset more", "data.slot beyond", "entry.path more") and \
                not isinstance(result, str):
            checks.append((what + " is refused", None if result[0] else "status 0"))
    for what, problem in checks:
        if problem is None:
            passed += 1
        else:
            failed += 1
            print("FAIL %s: %s" % (what, problem))
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
