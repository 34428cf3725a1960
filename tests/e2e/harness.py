"""What the end-to-end tests share: a register of checks, a site, a client.

A check is a function with @check; its docstring or name is its name. Checks run two
at a time, each on servers and folders of its own. A check fails by expect(), by any
exception; it is left out by skip(why). No agent may be left when all are through.
"""

import argparse
import concurrent.futures
import contextlib
import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(TOP, "tests", "lab"))

import agentconf                                                    # noqa: E402
import content as contents                                          # noqa: E402
import dnsd                                                         # noqa: E402
import lab as labs                                                  # noqa: E402
import parts as processes                                           # noqa: E402
import pki                                                          # noqa: E402
import replies                                                      # noqa: E402
import web                                                          # noqa: E402

PACKAGE, VERSION = "ABC00042", 3
NAME = "%s.%d" % (PACKAGE, VERSION)
TOKEN = "canary-token-5f1c"
CHECKS = []


class Skip(Exception):
    """The check cannot be made here; the text says why."""


def check(function):
    CHECKS.append(function)
    return function


def skip(why):
    raise Skip(why)


def terminal():
    """Both ends of a new terminal."""
    try:
        return pty.openpty()
    except OSError as error:
        skip("no terminal to be had here: %s" % error)


def on_terminal(lab, words, no_color=None):
    """What a terminal gets of the agent, and its exit status. no_color: the value of
    NO_COLOR, None = not set."""
    main_fd, side = terminal()
    env = {k: v for k, v in os.environ.items()
           if k != "NO_COLOR" and not k.lower().endswith("_proxy")}
    env["TERM"] = "xterm"
    if no_color is not None:
        env["NO_COLOR"] = no_color
    process = subprocess.Popen([agentconf.AGENT, *words, "--config", lab.conf],
                               stdin=subprocess.DEVNULL, stdout=side, stderr=side,
                               env=env)
    os.close(side)
    shown = b""
    with contextlib.suppress(OSError):    # the last writer has gone
        while more := os.read(main_fd, 65536):
            shown += more
    os.close(main_fd)
    return shown, process.wait()


def expect(good, *what):
    if not good:
        raise AssertionError(" ".join(str(w) for w in what))


def same(have, want, what=""):
    if have != want:
        raise AssertionError("%s: have %r, want %r" % (what, have, want))


def is_sanitized():
    return "san" in _shared["built"].split(os.sep)


# -- one CA for all: openssl is slow -------------------------------------------

class SharedCa(pki.Ca):
    """A CA that makes each certificate once."""

    def __init__(self, folder, label="Lab"):
        self.made, self.lock = {}, threading.RLock()
        super().__init__(folder, label)

    def server(self, *names, **how):
        key = (names, repr(sorted(how.items())))
        with self.lock:
            if key not in self.made:
                self.made[key] = super().server(*names, **how)
            return self.made[key]


_shared = {}
_shared_lock = threading.Lock()


def shared_ca():
    with _shared_lock:
        if "ca" not in _shared:
            folder = tempfile.mkdtemp(prefix="e2e-ca.")
            _shared["folder"] = folder
            _shared["ca"] = SharedCa(folder)
        return _shared["ca"]


def other_ca():
    shared_ca()
    with _shared_lock:
        if "other" not in _shared:
            _shared["other"] = SharedCa(os.path.join(_shared["folder"], "other"),
                                        "Stranger")
        return _shared["other"]


# -- a site and its client -------------------------------------------------------

def new_lab():
    lab = labs.Lab()
    lab._ca = shared_ca()
    return lab


class Site:
    """A lab.World with a token that is easy to find, and short ways to ask.

    Parts that a check does not need can be left out with `lean`: no cloud, no
    storage, no second distribution point; the management point speaks http.
    """

    def __init__(self, **how):
        self.lab = new_lab()
        try:
            how.setdefault("token", TOKEN)
            self.world = labs.World(self.lab, package=PACKAGE, version=VERSION, **how)
        except BaseException:
            self.lab.stop()
            raise
        self.content = self.world.content

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.lab.stop()

    def path(self, *names):
        return self.lab.path(*names)

    def run(self, *args, **how):
        return self.lab.run_agent(*args, **how)

    def download(self, *args, status=0, **how):
        """--download --json; the whole Run, its exit status checked."""
        run = self.run("--download", PACKAGE, "--json", *args, **how)
        wants(run, status)
        expect(run.json is not None, "no JSON on stdout:", run.out[:500])
        return run

    def published(self, name=NAME):
        path = self.path("cache", "content", name)
        return path if os.path.isdir(path) else None

    def expect_published(self, content=None):
        path = self.published()
        expect(path, "nothing is published")
        same(contents.folder_hash(path), (content or self.content).hash, "hash")
        same(contents.files(path), (content or self.content).files, "files")

    def expect_nothing(self):
        expect(not self.published(), "something is published")

    def partial(self, name=NAME):
        path = self.path("cache", "partial", name)
        return path if os.path.isdir(path) else None

    def forget(self):
        """An empty cache."""
        wants(self.run("--cache", "remove", NAME), 0)

    def without(self, *names):
        """Take the content away from dp01, dp02 or store."""
        for name in names:
            inner = ("content", PACKAGE) if name == "store" else (PACKAGE,)
            shutil.rmtree(self.path(name, *inner))

    def tamper(self, file, *names):
        for name in names:
            inner = ("content",) if name == "store" else ()
            path = os.path.join(self.path(name, *inner, PACKAGE), file)
            shutil.copy2(path, path + ".new")   # no link to the good bytes
            os.replace(path + ".new", path)
            contents.tamper(path)

    def conf(self, **settings):
        """agent.conf anew, with other settings: section__key=value."""
        world = self.world
        values = {"cloud.suffix": ["cloudapp.net", "blob.core.windows.net"],
                  "client.token_file": self.path("token")}
        values.update({k.replace("__", "."): v for k, v in settings.items()})
        self.lab.agent_conf([world.mp_url], [world.dns], values)

    def locations(self):
        """The location requests that the management point saw."""
        return [r for r in self.world.mp.requests() if "package_id" in r]

    def traffic(self):
        """How often each server was asked, over all."""
        w = self.world
        return (len(web.access_log(w.dp1)), len(web.access_log(w.dp2)),
                len(web.access_log(w.storage)) if hasattr(w.storage, "root") else 0,
                len(w.mp.requests()), len(w.cloud.requests()))


class Small:
    """A site of one plain-http management point; the check adds what it needs."""

    def __init__(self, files=None, total=1 << 16, settings=None, mp=True):
        self.lab = new_lab()
        try:
            self.content = self.lab.content(
                PACKAGE, contents.AWKWARD if files is None else files, total)
            self.settings = settings or {}
            self.mp = self.lab.mp() if mp else None
            self.dns = []
            self.conf()
        except BaseException:
            self.lab.stop()
            raise

    __enter__, __exit__ = Site.__enter__, Site.__exit__
    path, run, download = Site.path, Site.run, Site.download
    published, expect_published = Site.published, Site.expect_published
    expect_nothing, partial, forget = Site.expect_nothing, Site.partial, Site.forget

    def conf(self, mps=None, **settings):
        values = {**self.settings,
                  **{k.replace("__", "."): v for k, v in settings.items()}}
        if mps is None:
            mps = ["http://127.0.0.1:%d" % self.mp.port] if self.mp else []
        self.lab.agent_conf(mps, self.dns, values)

    def names(self, *records, zones=labs.ZONES):
        """Real DNS for these records; in agent.conf from now on."""
        self.dns = [self.lab.dns_nsd(records or labs.records(), zones)]
        self.conf()

    def locate(self, *sources, **how):
        self.mp.publish(PACKAGE, replies.location_reply(
            [labs.World._record(s) if isinstance(s, str) else s for s in sources],
            **how))

    def share(self, part, scheme="http", host="127.0.0.1", vdir="SMS_DP_SMSPKG$"):
        return "%s://%s:%d/%s/%s" % (scheme, host, part.port, vdir, PACKAGE)

    def policy(self, **how):
        return self.lab.policy(PACKAGE, VERSION, self.content, **how)


def wants(run, status):
    if run.status != status:
        raise AssertionError("status %d, wanted %d\n  stdout: %s\n  stderr: %s" % (
            run.status, status, run.out[-1500:], run.err[-2500:]))
    return run


def error_of(run):
    expect(run.json is not None, "no JSON on stdout:", run.out[:300], run.err[:300])
    return run.json.get("error") or {}


def attempts_of(run):
    """[(host without port, kind, error code or None), ...]"""
    return [(a["host"].split(":")[0].lower(), a["kind"],
             (a["error"] or {}).get("code")) for a in run.json["attempts"]]


def bytes_served(log):
    return sum(r["bytes"] for r in log
               if r["method"] == "GET" and r["status"] in (200, 206))


def gets(log):
    return [r for r in log if r["method"] == "GET"]


# -- an agent under way -------------------------------------------------------------

class Running:
    """An agent that is at work: its progress is read as JSON lines."""

    def __init__(self, site, *args, json_out=True, env=None):
        words = ["--json"] if json_out else []
        self.process = site.run("--download", PACKAGE, *words, "--progress", "json",
                                *args, popen=True, env=env)
        self.lines, self.rest = [], b""
        self.end = time.monotonic() + 60

    @property
    def pid(self):
        return self.process.pid

    def children(self):
        path = "/proc/%d/task/%d/children" % (self.pid, self.pid)
        with contextlib.suppress(OSError):
            with open(path) as stream:
                return [int(word) for word in stream.read().split()]
        return []

    def until(self, good):
        """Read progress until good(line) is true; the line."""
        while True:
            while b"\n" in self.rest:
                line, self.rest = self.rest.split(b"\n", 1)
                self.lines.append(line.decode("utf-8", "replace"))
                with contextlib.suppress(ValueError):
                    told = json.loads(line)
                    if good(told):
                        return told
            left = self.end - time.monotonic()
            pipe = self.process.stderr
            if left <= 0 or not select.select([pipe], [], [], left)[0]:
                raise AssertionError("no such progress in time: %s" % self.lines[-3:])
            more = os.read(pipe.fileno(), 1 << 16)
            if not more:
                raise AssertionError("the agent ended early: %s" % self.lines[-8:])
            self.rest += more

    def until_bytes(self, number):
        return self.until(lambda p: p.get("bytes_done", 0) >= number)

    def signal(self, number):
        self.process.send_signal(number)
        self.signalled = time.monotonic()

    def finish(self, timeout=60):
        """Run(status, out, err, json); .took since the signal."""
        try:
            out, err = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise AssertionError("the agent does not end") from None
        self.took = time.monotonic() - getattr(self, "signalled", time.monotonic())
        text = out.decode("utf-8", "replace")
        err = "\n".join(self.lines) + (self.rest + err).decode("utf-8", "replace")
        try:
            parsed = json.loads(text)
        except ValueError:
            parsed = None
        return agentconf.Run(self.process.returncode, text, err, parsed)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe:
                pipe.close()


def peak_kib(*argv, timeout=60, env=None):
    """(Run, most memory of one of its processes in KiB), by wait4."""
    clean = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
    clean.update(env or {})
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = subprocess.Popen([agentconf.AGENT, *argv], stdin=subprocess.DEVNULL,
                                   stdout=out, stderr=err, env=clean)
        timer = threading.Timer(timeout, process.kill)
        timer.start()
        _, status, usage = os.wait4(process.pid, 0)
        timer.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode("utf-8", "replace"))
    try:
        parsed = json.loads(texts[0])
    except ValueError:
        parsed = None
    return (agentconf.Run(process.returncode, texts[0], texts[1], parsed),
            usage.ru_maxrss)


def is_alive(pid):
    try:
        with open("/proc/%d/stat" % pid) as stream:
            return stream.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Mounted:
    """A small tmpfs on a folder."""

    def __init__(self, path, options):
        if os.geteuid() != 0:
            skip("a tmpfs needs root")
        self.path = path
        os.makedirs(path, exist_ok=True)
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options + ",mode=755",
                               "none", path], capture_output=True, text=True)
        if done.returncode:
            skip("no tmpfs here: " + done.stderr.strip())

    def __enter__(self):
        return self

    def remount(self, options):
        subprocess.run(["mount", "-o", "remount," + options, self.path], check=True)

    def __exit__(self, *_):
        subprocess.run(["umount", self.path], check=True)


def find_text(text, *folders):
    """Files under the folders that hold `text`."""
    found = []
    for folder in folders:
        for base, _, names in os.walk(folder):
            for name in names:
                path = os.path.join(base, name)
                with contextlib.suppress(OSError), open(path, "rb") as stream:
                    if text.encode() in stream.read():
                        found.append(path)
    return found


def left_behind():
    """Processes that still run our copy of the agent."""
    found = []
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if name.isdigit() and os.readlink("/proc/%s/exe" % name) == agentconf.AGENT:
                found.append(int(name))
    return found


# -- the run -------------------------------------------------------------------------

def _run(function):
    began = time.monotonic()
    try:
        function()
        kind, why = "ok", ""
    except Skip as error:
        kind, why = "SKIPPED", str(error)
    except AssertionError as error:
        frame = traceback.extract_tb(sys.exc_info()[2])
        lines = [f.lineno for f in frame if f.filename != __file__]
        kind, why = "FAIL", "line %s: %s" % (lines[-1] if lines else "?", error)
    except Exception:                                     # noqa: BLE001
        kind, why = "FAIL", traceback.format_exc()
    return kind, why, time.monotonic() - began


def name_of(function):
    return function.__name__.replace("_", " ")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--agent", default="build/agent")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("words", nargs="*", help="only checks with one of these")
    options = parser.parse_args()
    built = _shared["built"] = os.path.abspath(options.agent)
    own = os.path.join(os.path.dirname(built), "lab")
    labs.BUILD = own if os.path.exists(os.path.join(own, "mp")) else labs.BUILD
    if not os.access(built, os.X_OK):
        print("FAIL agent: %s is not built\n0 passed, 1 failed" % built)
        return 1
    # A copy: somebody may link it anew while the checks run.
    shared_ca()
    agentconf.AGENT = os.path.join(_shared["folder"], "agent")
    shutil.copy2(built, agentconf.AGENT)
    os.chmod(_shared["folder"], 0o755)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    chosen = [f for f in CHECKS if not options.words
              or any(w in name_of(f) for w in options.words)]
    counts = {"ok": 0, "FAIL": 0, "SKIPPED": 0}
    try:
        with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
            for function, (kind, why, took) in zip(chosen, pool.map(_run, chosen)):
                counts[kind] += 1
                if kind == "ok":
                    print("ok %s (%.1f s)" % (name_of(function), took))
                else:
                    print("%s %s: %s" % (kind, name_of(function), why))
                sys.stdout.flush()
        for pid in left_behind():
            counts["FAIL"] += 1
            print("FAIL left behind: agent process %d" % pid)
            os.kill(pid, signal.SIGKILL)
    finally:
        if "folder" in _shared:
            shutil.rmtree(_shared["folder"], ignore_errors=True)
    print("%d passed, %d failed%s" % (
        counts["ok"], counts["FAIL"],
        ", %d skipped" % counts["SKIPPED"] if counts["SKIPPED"] else ""))
    return 1 if counts["FAIL"] or not counts["ok"] else 0


# Parts that tests name often.
__all__ = [n for n in dir() if not n.startswith("_")]
