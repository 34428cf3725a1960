#!/usr/bin/env python3
"""The real keeper with a network role that lies about every field (docs/security.md).

Whatever it says, the cache holds either nothing or exactly the content that
policy's hash names, the policy that is kept is the one of before or one that was
proved, no hash of it comes from the site, and nothing outside of the lab's folder
changes. It ends in time and in bounded memory.
"""
import argparse
import collections
import concurrent.futures
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time

FILES = {"hello.txt": b"hello\n", "sub/world.txt": b"world\n"}
EVIL = "/tmp/agent-liar"
HONEST = "any.none-0-x"
SECONDS = 60
MOST_KIB = 64 << 10
# A policy and its signature may have 96 MiB.
MOST_KIB_POURED = 160 << 10
# All of the agent's own memory is the sanitizers' as well.
SANITIZED = 8


def content_hash():
    lines = "".join("%s  %s\n" % (hashlib.sha256(FILES[p]).hexdigest(), p) for p in sorted(FILES))
    return hashlib.sha256(lines.encode()).hexdigest()


def policy_text(purpose, more=""):
    return ("[deployment]\npackage = ABC00042\nversion = 3\npurpose = %s\n%s[content]\nhash = sha256:%s\n"
            % (purpose, more, content_hash()))


# -- what can be lied about ----------------------------------------------------------

def fields_of(message):
    text = open("agent/wire.h", encoding="ascii").read()
    text = re.sub(r"/\*.*?\*/", "", text, flags=re.S)
    body = re.search(r"#define WIRE_FIELDS_%s\(U, S\)((?:.*\\\n)*.*)\n" % message, text).group(1)
    return re.findall(r"\b[US]\((\w+)", body)


def lies(call, messages, skipped=(), more=()):
    """(lie, what it is) for every field of every message of one conversation."""
    for name in messages.split():
        for number, field in enumerate(fields_of(name)):
            for mutation in "zero more max beyond ones".split():
                yield "%s.%s-%d-%s" % (call, name, number, mutation), "%s.%s %s" % (name, field, mutation)
        for mutation in "short long type other twice die".split():
            yield "%s.%s-0-%s" % (call, name, mutation), "%s %s" % (name, mutation)
    for name in skipped:
        yield "%s.%s-0-skip" % (call, name), "%s skip" % name
    for lie, what in more:
        yield "%s.%s" % (call, lie), what


# -- one run ---------------------------------------------------------------------------

Run = collections.namedtuple("Run", "status text error have bundle kib failed took")


class World:
    """What all runs of one way to use the agent share: its words, settings, files
    that are there before."""

    def __init__(self, agent, scratch, words, settings, purpose, cases):
        self.agent, self.scratch, self.words = agent, scratch, words
        self.settings, self.purpose = settings, purpose
        self.cases, self.state = list(cases), None

    def setup(self, folder, lie):
        for sub in ("policy.d", "cache", "log"):
            os.mkdir(os.path.join(folder, sub), 0o700)
        state = os.path.join(folder, "state")
        if self.state:
            shutil.copytree(self.state, state)
        else:
            os.mkdir(state, 0o700)
        with open(os.path.join(folder, "agent.conf"), "w", encoding="ascii") as f:
            f.write("[site]\ncode = ABC\nmanagement_point = http://mp.test\nforest = %s.test\n" % lie)
            f.write("[policy]\n%s[cache]\ndirectory = %s/cache\nmin_free = 0\n" % (
                self.settings.replace("FOLDER", folder), folder))
            f.write("[state]\ndirectory = %s/state\n[log]\ndirectory = %s/log\n" % (folder, folder))
            f.write("[transfer]\nattempts = 1\n[control]\nsocket =\n")
        with open(os.path.join(folder, "policy.d", "a.ini"), "w", encoding="ascii") as f:
            f.write(policy_text(self.purpose))

    def keep_state(self, lie, only=None):
        """The state that an agent has after this run is what the others begin with."""
        folder = tempfile.mkdtemp(dir=self.scratch)
        self.setup(folder, lie)
        run = self.finish(folder)
        if only:
            for name in os.listdir(os.path.join(folder, "state")):
                if name not in only:
                    os.unlink(os.path.join(folder, "state", name))
        self.state = os.path.join(folder, "state")
        return run

    def finish(self, folder):
        argv = [self.agent, "--config", folder + "/agent.conf", "--json", *self.words]
        began = time.monotonic()
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
            timer = threading.Timer(SECONDS, process.kill)
            timer.start()
            _, status, usage = os.wait4(process.pid, 0)
            timer.cancel()
            process.returncode = os.waitstatus_to_exitcode(status)
            texts = []
            for stream in (out, err):
                stream.seek(0)
                texts.append(stream.read())
        try:
            error = (json.loads(texts[0]).get("error") or {}).get("detail")
        except ValueError:
            error = "no JSON"
        return Run(process.returncode, texts[1], error, published(folder), bundle(folder), usage.ru_maxrss,
                   b"policy is not fetched" in texts[1], time.monotonic() - began)

    def run(self, lie):
        """What is wrong, as text; the Run."""
        folder = tempfile.mkdtemp(dir=self.scratch)
        try:
            self.setup(folder, lie)
            before = bundle(folder)
            run = self.finish(folder)
            return self.judge(run, lie, before, folder), run
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def judge(self, run, lie, before, folder):
        good = {"ABC00042.3/" + k: v for k, v in FILES.items()}
        if run.status < 0 or run.status in (134, 139):
            return "keeper ended by a signal: %d\n%s" % (run.status, run.text.decode(errors="replace")[-2000:])
        if run.have not in (good, {}):
            return "status %d, the cache holds %s" % (run.status, sorted(run.have))
        if os.path.lexists(EVIL):
            return "a file outside of the cache was made"
        if b"\033[2J" in run.text:
            return "raw escape sequence on the terminal"
        # net itself may say INTERNAL, the keeper has a better word for a lie
        unclear = (None, "no JSON") if re.search(r"\.(done|fetched)-\d-more$", lie) else (None, "no JSON", "INTERNAL")
        if run.status != 0 and (not run.text.strip() or run.error in unclear):
            return "status %d, but the error is %s" % (run.status, run.error)
        if run.kib > MOST_KIB_POURED * (SANITIZED if "/san/" in self.agent else 1):
            return "%d KiB of memory" % run.kib
        return self.judge_policy(run, before, folder)

    def judge_policy(self, run, before, folder):
        return None


class Download(World):
    def judge_policy(self, run, before, folder):
        if run.status == 0 and not run.have:
            return "status 0, but the cache holds nothing"
        return "status %d, but the cache holds %s" % (run.status, sorted(run.have)) \
            if run.status and run.have else None


# What a policy file that was made from the site's words may say.
SITE_LINE = re.compile(
    r"; file [A-Za-z0-9_{}-]+-[A-Za-z0-9_.{}-]+\.ini [0-9]+|; cloud-dp-agent policy bundle||"
    r"\[deployment\]|\[content\]|id = [A-Za-z0-9_{}-]+|name = [^\x00-\x1f\x7f;]+|package = [A-Za-z0-9_{}-]+|"
    r"version = [0-9]+|purpose = (required|available)|(available|deadline) = [0-9TZ:-]+|"
    r"site_hash = [A-Za-z0-9:_-]+")


class Once(World):
    """--once with policy from the network."""
    good = None

    def judge_policy(self, run, before, folder):
        if run.failed and run.bundle != before:
            return "the poll failed with %s, and the policy is another one" % run.error
        if run.failed and run.error is None:
            return "the poll failed, and the status is 0"
        if self.good is None:
            lines = (run.bundle or b"").decode().split("\n")
            bad = [line for line in lines if not SITE_LINE.fullmatch(line)]
            if bad:
                return "policy of the site says %r" % bad
        elif run.bundle not in (before, self.good):
            return "a policy was kept that nobody signed: %r" % run.bundle[:200]
        path = os.path.join(folder, "state", "policy.origin")
        if os.path.exists(path):
            with open(path, "rb") as stream:
                if not re.fullmatch(rb"([a-z0-9]+ [^\x00-\x1f\x7f]*\n)+", stream.read()):
                    return "policy.origin is not what it was"
        path = os.path.join(folder, "state", "smsid")
        if os.path.exists(path):
            with open(path, "rb") as stream:
                if not re.match(rb"GUID:[0-9A-Fa-f-]{36} ", stream.read()):
                    return "an id that is none was kept"
        return None


def published(folder):
    top = os.path.join(folder, "cache", "content")
    found = {}
    for root, _, names in os.walk(top):
        for name in names:
            path = os.path.join(root, name)
            found[os.path.relpath(path, top)] = open(path, "rb").read()
    return found


def bundle(folder):
    path = os.path.join(folder, "state", "policy.bundle")
    return open(path, "rb").read() if os.path.exists(path) else None


# -- the ways -------------------------------------------------------------------------

def download(agent, scratch):
    cases = lies("any", "ready note attempt location located entry listed head data fetched done",
                 "located entry listed head data".split(),
                 (("bytes-0-x", "wrong bytes"), ("swap-0-x", "bytes swapped in the ring")))
    return Download(agent, scratch, ["--download", "ABC00042"], "source = FOLDER/policy.d\n", "required", cases)


def site_cases():
    yield from lies("registration", "note attempt registered done", ["registered"],
                    [("early-0-x", "early done"), ("registered-0-endless", "registered endless"),
                     ("attempt-0-endless", "attempt endless")])
    yield from lies("assignments", "note attempt assignment done", ["assignment"],
                    [("early-0-x", "early done"), ("assignment-0-endless", "assignment endless"),
                     ("attempt-0-endless", "attempt endless"), ("assignment-0-deaf", "assignment to a deaf end")])
    yield from lies("relay", "note attempt done", (), [("early-0-x", "early done")])


def site(agent, scratch, is_known):
    """The site: a machine that begins, and one that has a policy of it."""
    world = Once(agent, scratch, ["--once"], "source = mp\nlocal = FOLDER/policy.d\n", "available", site_cases())
    # another version is a lie that the site may tell
    run = world.keep_state("assignments.assignment-4-more", None if is_known else ["identity.pem"])
    if run.status != 4 or run.error != "NO_HASH":
        raise SystemExit("the site's policy is not understood: %s" % (run,))
    if is_known:
        world.cases = [case for case in world.cases
                       if not case[0].startswith("registration") and "deaf" not in case[0]]
    return world


class Signed:
    """Two policies, one signed after the other, alone and with the text beside it."""

    def __init__(self, scratch):
        self.folder = os.path.join(scratch, "signed")
        os.mkdir(self.folder, 0o755)
        self.signer = os.path.join(self.folder, "signer.pem")
        self.openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                     "-keyout", self.signer + ".key", "-out", self.signer, "-days", "30", "-subj", "/CN=Signer")
        self.texts = [policy_text("required", "name = policy %d\n" % n) for n in (1, 2)]
        for n, text in enumerate(self.texts):
            path = os.path.join(self.folder, "%d.ini" % n)
            with open(path, "w", encoding="ascii") as stream:
                stream.write(text)
            for out, how in ((path + ".p7s", []), (path + ".cms", ["-nodetach"])):
                self.openssl("cms", "-sign", "-binary", "-signer", self.signer, "-inkey", self.signer + ".key",
                             "-in", path, "-out", out, "-outform", "DER", *how)
        self.publish(0)

    @staticmethod
    def openssl(*words):
        subprocess.run(["openssl", *words], check=True, capture_output=True)

    def publish(self, n):
        for name in ("ini", "ini.p7s", "ini.cms"):
            shutil.copy("%s/%d.%s" % (self.folder, n, name), "%s/all.%s" % (self.folder, name))


def signed(agent, scratch, policy, name, is_known):
    """An https URL: a machine that begins, and one that has an older policy."""
    settings = "source = https://policy.test%s/all.%s\nsigner = %s\n" % (policy.folder, name, policy.signer)
    cases = lies("document", "note body data done", ["body", "data"],
                 [("early-0-x", "early done"), ("bytes-0-x", "wrong bytes"), ("swap-0-x", "bytes swapped in the ring"),
                  ("flip-0-x", "bytes that change all the time"), ("pour-0-x", "data without end"),
                  ("body-0-endless", "body endless")])
    world = Once(agent, scratch, ["--once"], settings, "available", cases)
    world.good = policy.texts[1].encode()
    policy.publish(0)
    if is_known:
        run = world.keep_state(HONEST)
        if run.status != 0 or run.bundle != policy.texts[0].encode():
            raise SystemExit("the signed policy is not understood: %s" % (run,))
    policy.publish(1)
    return world


# These must be caught, not merely be harmless.
REFUSED = {
    "download": ["wrong bytes", "data.offset more", "data.slot beyond", "entry.path more"],
    "site": ["registered.smsid zero", "registered.smsid more", "registered.smsid beyond", "registered twice",
             "registered skip", "registered other", "registered die", "registered endless", "assignment endless",
             "attempt endless", "assignment to a deaf end", "assignment other", "assignment die", "assignment short", "assignment long",
             "assignment type", "assignment.package beyond", "assignment.has_files beyond"],
    "signed": ["body skip", "body twice", "body other", "body die", "body.length more", "body.length beyond",
               "body endless", "data skip", "data twice", "data other", "data die", "data.index max",
               "data.offset more", "data.offset zero", "data.slot max", "data.slot beyond", "data.length max",
               "data.length zero", "data without end", "wrong bytes", "early done"],
}


def checks_of(title, group, world):
    """(what, None or what is wrong) for all lies of one world."""
    problem, honest = world.run(HONEST)
    if problem is None and (honest.status != 0 or not honest.have or honest.kib > MOST_KIB
                            and "/san/" not in world.agent):
        problem = str(honest)
    yield "%s: honest" % title, problem
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda c: world.run(c[0]), world.cases))
    for (lie, what), (problem, run) in zip(world.cases, results):
        where = "%s, %s: %s" % (title, lie.split(".")[0], what)
        yield where, problem
        if what in REFUSED[group] and not lie.startswith("relay"):
            yield where + " is refused", None if run.status else "status 0"


def left_behind(agent):
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink("/proc/%s/exe" % pid) == agent:
                found.append(pid)
        except OSError:
            pass
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--agent", default="build/agent")
    args = parser.parse_args()
    built = os.path.abspath(os.path.join(os.path.dirname(args.agent), "tests/liar/agent"))
    scratch = tempfile.mkdtemp(prefix="agent-liar-")
    # a copy of its own; "san" tells what it was built with
    agent = os.path.join(scratch, "san" if "/san/" in built else "plain", "agent")
    os.mkdir(os.path.dirname(agent))
    shutil.copy2(built, agent)
    os.chmod(scratch, 0o755)
    passed = failed = 0
    try:
        policy = Signed(scratch)
        worlds = [("download", "download", lambda: download(agent, scratch))]
        for title, is_known in (("begins", False), ("goes on", True)):
            worlds.append(("site " + title, "site", lambda k=is_known: site(agent, scratch, k)))
            for name in ("ini.cms", "ini"):
                worlds.append(("%s %s" % (name, title), "signed",
                               lambda n=name, k=is_known: signed(agent, scratch, policy, n, k)))
        for title, group, make in worlds:
            for what, problem in checks_of(title, group, make()):
                passed += problem is None
                failed += problem is not None
                if problem is not None:
                    print("FAIL %s: %s" % (what, problem))
        left = left_behind(agent)
        if left:
            failed += 1
            print("FAIL left behind: %s" % left)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
