#!/usr/bin/env python3
"""The main job, shown on the laboratory: scripts/demo runs it.

    python3 tests/lab/demo.py [--size 320M] [--files 400] [--keep]

Four parts. Each says what it is about, prints every command before it is run and
what the command answered, and then checks: exit status, fields of the JSON object,
the bytes with sha256sum, and what the servers say they sent. Exit status 0 means
that all four parts did what they should.
"""

import argparse
import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import agentconf                                                    # noqa: E402
import content as contents                                          # noqa: E402
import lab as labs                                                  # noqa: E402
import web                                                          # noqa: E402

PACKAGE, VERSION, TOKEN = "ABC00042", 3, "lab-token"
NAME = "%s.%d" % (PACKAGE, VERSION)
FOLDERS = ("bin", "bin/plugins", "data/maps/europe", "data/maps/asia/east",
           "data/sound", "doc/en", "doc/de/Anhänge", "drivers/x64/net",
           "drivers/x64/print", "drivers/x86", "samples/with space", "update/2026")
WIDTH = 78
HASH_LINE = ("find . -type f -printf '%P\\0' | LC_ALL=C sort -z"
             " | xargs -0r sha256sum -- | sha256sum")
SECONDS = 300   # for one command; none should need them


# -- what the person sees ----------------------------------------------------------

class Screen:
    def __init__(self, out=sys.stdout):
        self.out = out
        colour = out.isatty() and not os.environ.get("NO_COLOR")
        self.codes = {"bold": "1", "dim": "2", "red": "1;31", "green": "32",
                      "cyan": "36"} if colour else {}

    def paint(self, style, text):
        code = self.codes.get(style)
        return "\033[%sm%s\033[0m" % (code, text) if code else text

    def line(self, text=""):
        print(text, file=self.out, flush=True)

    def heading(self, text):
        self.line()
        self.line(self.paint("bold", "== %s %s" % (text, "=" * (WIDTH - 4 - len(text)))))

    def explain(self, text):
        self.line()
        self.line(textwrap.fill(" ".join(text.split()), WIDTH,
                                break_on_hyphens=False))

    def command(self, text):
        self.line()
        self.line(self.paint("cyan", "  $ " + text))

    def output(self, text):
        for line in text.rstrip("\n").splitlines():
            self.line("    " + line)

    def verdict(self, good, text):
        word = self.paint("green", "ok") if good else self.paint("red", "NOT OK")
        self.line("  %s  %s" % (word, text))


def mb(count):
    return "%.1f MB" % (count / 1e6)


# -- commands ----------------------------------------------------------------------

class Demo:
    def __init__(self, world, screen):
        self.world, self.lab, self.screen = world, world.lab, screen
        self.part, self.failures, self.passed = "", [], []
        self.env = {k: v for k, v in os.environ.items()
                    if not k.lower().endswith("_proxy")}

    @contextlib.contextmanager
    def step(self, title):
        """One part: its heading, and whether all its checks held."""
        before = len(self.failures)
        self.part = title
        self.screen.heading(title)
        try:
            yield
        except (subprocess.TimeoutExpired, OSError, TypeError, KeyError) as error:
            self.check(False, repr(error))
        if len(self.failures) == before:
            self.passed.append(title)

    def check(self, good, text):
        self.screen.verdict(good, text)
        if not good:
            self.failures.append("%s: %s" % (self.part, text))
        return good

    def agent(self, *args, quiet=False, status=None, fields=None):
        """Run the agent as a person would; (exit status, its JSON object or None).

        quiet    neither shown nor told: a second look at something just shown
        status   the exit status that it must have
        fields   names of what to show of the JSON object, instead of its output
        """
        return self.finish(self.start(*args, quiet=quiet), quiet, status, fields)

    def start(self, *args, quiet=False):
        argv = [agentconf.AGENT, "--config", self.world.conf, *args]
        shown = [os.path.relpath(argv[0], agentconf.TOP)
                 if argv[0].startswith(agentconf.TOP + "/") else argv[0], *argv[1:]]
        if not quiet:
            self.screen.command(" ".join(shlex.quote(word) for word in shown))
        # On a terminal the agent draws its bar there; else its lines are passed on.
        on_terminal = sys.stderr.isatty() and not quiet
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=None if on_terminal else subprocess.PIPE, env=self.env)
        process.teller = threading.Thread(
            target=self.tell, args=(process.stderr, quiet), daemon=True)
        process.teller.start()
        process.watchdog = threading.Timer(SECONDS, process.kill)
        process.watchdog.daemon = True
        process.watchdog.start()
        return process

    def tell(self, pipe, quiet):
        for line in pipe or ():
            if not quiet:
                self.screen.output(line.decode("utf-8", "replace"))

    def finish(self, process, quiet, status, fields):
        out = process.stdout.read()
        process.wait()
        process.watchdog.cancel()
        process.teller.join(5)
        text = out.decode("utf-8", "replace")
        try:
            parsed = json.loads(text)
        except ValueError:
            parsed = None
        if not quiet and fields and parsed is not None:
            self.screen.output(self.pick(parsed, fields))
        elif not quiet:
            self.screen.output(text)
        if status is not None:
            self.check(process.returncode == status,
                       "exit status %d%s" % (process.returncode, "" if
                       process.returncode == status else ", wanted %d" % status))
        return process.returncode, parsed

    @staticmethod
    def pick(parsed, fields):
        """Some fields of the JSON object, one a line."""
        lines = []
        for name in fields:
            value = parsed.get(name)
            if name == "source":
                lines.append("%-15s %s" % (name, "none" if not value else "%s %s" % (
                    value.get("kind"), value.get("host"))))
            elif name == "error":
                lines.append("%-15s %s" % (name, "none" if not value else
                             "%(code)s (exit %(exit)s) at step %(step)s" % value))
            elif name.startswith("bytes") and isinstance(value, int):
                lines.append("%-15s %d (%s)" % (name, value, mb(value)))
            else:
                lines.append("%-15s %s" % (name, json.dumps(value)))
        return "\n".join(lines)

    def shell(self, command):
        self.screen.command(command)
        done = subprocess.run(["/bin/bash", "-c", command], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=SECONDS)
        self.screen.output(done.stdout + done.stderr)
        return done.stdout

    # -- facts that do not come from the agent --------------------------------------

    def check_folder(self, path):
        """The published folder, by sha256sum alone, against policy."""
        if not path or not os.path.isdir(path):
            self.check(False, "no content is published at %s" % path)
            return
        words = self.shell("cd %s && %s" % (shlex.quote(path), HASH_LINE)).split()
        wanted = self.world.content.hash
        self.check(bool(words) and "sha256:" + words[0] == wanted,
                   "sha256sum agrees with policy: %s..." % wanted[:23])

    def served(self, part, since=0):
        """Bytes of GET answers in a web server's log, from line `since` on."""
        return sum(r["bytes"] for r in web.access_log(part)[since:]
                   if r["method"] == "GET" and r["status"] in (200, 206))

    def published(self):
        path = self.lab.path("cache", "content", NAME)
        return path if os.path.isdir(path) else None

    def partial_bytes(self):
        total = 0
        for base, _, names in os.walk(self.lab.path("cache", "partial", NAME)):
            for name in names:
                with contextlib.suppress(OSError):
                    total += os.stat(os.path.join(base, name)).st_size
        return total

    def empty_cache(self):
        self.agent("--cache", "remove", NAME, status=0)

    def copies(self):
        return [self.lab.path("dp01", PACKAGE), self.lab.path("dp02", PACKAGE),
                self.lab.path("store", "content", PACKAGE)]


# -- the four parts ------------------------------------------------------------------

def on_premises(demo):
    world, screen = demo.world, demo.screen
    screen.explain("""
        Policy names the content, its version and its hash. The management point is
        asked who has it, and answers with two distribution points on-premises and a
        cloud service. Each source is listed with the rule that placed or refused
        it.""")
    demo.shell("cat %s" % shlex.quote(world.policy))
    demo.agent("--locate", PACKAGE, status=0)
    _, told = demo.agent("--locate", PACKAGE, "--json", quiet=True)
    places = (told or {}).get("locations", [])
    demo.check([p["kind"] for p in places] == ["on-prem", "on-prem", "cloud"],
               "both on-premises sources stand before the cloud")

    screen.explain("""
        The download takes the first one, hashes while it receives, and publishes
        the folder by one rename once the content hash is that of policy.""")
    marks = [len(web.access_log(p)) for p in (world.dp1, world.dp2, world.storage)]
    demo.agent("--download", PACKAGE, status=0)
    demo.check_folder(demo.published())
    sent = [demo.served(p, m) for p, m in
            zip((world.dp1, world.dp2, world.storage), marks)]
    demo.check(sent[0] == world.content.total and not sent[1] and not sent[2],
               "by the web servers' own logs: dp01 sent %s, dp02 %s, the cloud %s"
               % tuple(mb(s) for s in sent))

    screen.explain("""
        A second time nothing is fetched: the published files are hashed again, and
        that is enough.""")
    _, told = demo.agent("--download", PACKAGE, "--json", status=0, fields=(
        "result", "hash", "path", "files", "bytes_total", "bytes_received"))
    told = told or {}
    demo.check(told.get("result") == "cached" and told.get("bytes_received") == 0,
               "answered from the cache, 0 bytes over the network")
    demo.check(told.get("hash") in (world.content.hash, world.content.hash[7:])
               and told.get("files") == len(world.content.files),
               "hash and number of files are right")


def fallback(demo):
    world, lab, screen = demo.world, demo.lab, demo.screen
    screen.explain("""
        Now both distribution points lose the content (the management point has not
        heard of it yet), and the cache is emptied.""")
    demo.empty_cache()
    for name in ("dp01", "dp02"):
        os.rename(lab.path(name, PACKAGE), lab.path(name + ".away"))
    demo.check(demo.published() is None, "nothing is published any more")

    screen.explain("""
        The cloud service is reached by a name of the company, the Service FQDN. An
        alias leads from there to the provider. The agent walks it itself, hop by
        hop, and holds the end of the chain against [cloud] suffix.""")
    demo.agent("--resolve", labs.SERVICE, status=0)
    _, walk = demo.agent("--resolve", labs.SERVICE, "--json", quiet=True)
    walk = walk or {}
    hops = [(h["owner"].lower(), h["target"].lower()) for h in walk.get("hops", ())]
    demo.check(hops == [(labs.SERVICE.lower(), labs.ALIAS)]
               and walk.get("canonical", "").lower() == labs.ALIAS,
               "one alias: %s -> %s" % (labs.SERVICE, labs.ALIAS))

    screen.explain("""
        The certificate must be for the Service FQDN, whatever the alias leads to:
        whoever takes over the provider's name still has no certificate for
        ours.""")
    service = "%s:%d" % (labs.SERVICE, world.cloud.port)
    demo.agent("--verify-server", service, status=0)
    _, told = demo.agent("--verify-server", service, "--json", quiet=True)
    tls = (told or {}).get("tls") or {}
    demo.check(tls.get("verified") is True and
               tls.get("name_checked", "").lower() == labs.SERVICE.lower(),
               "the chain is trusted, for the name %s" % labs.SERVICE)
    demo.check(len(tls.get("chain", ())) >= 2 and
               not any(c.get("problem") for c in tls["chain"]),
               "%d certificates, nothing wrong with any" % len(tls.get("chain", ())))

    screen.explain("""
        The same command as before. Both distribution points are asked first; that
        they answer 404 is evidence of absence, so the cloud is next. Its manifest
        names every file with a signed link into storage.""")
    _, told = demo.agent("--download", PACKAGE, "--json", status=0, fields=(
        "result", "source", "files", "bytes_received", "duration_ms"))
    told = told or {}
    source = told.get("source") or {}
    demo.check(told.get("result") == "verified" and source.get("kind") == "cloud",
               "the cloud delivered")
    codes = [(a.get("error") or {}).get("code") for a in told.get("attempts", ())]
    demo.check(len(codes) == 3 and all(codes[:2]) and codes[2] is None,
               "three attempts, each with its own result")
    demo.check("sig=lab" not in json.dumps(told), "no signature in what was printed")
    demo.check_folder(demo.published())


def resume(demo):
    world, lab, screen = demo.world, demo.lab, demo.screen
    screen.explain("""
        The distribution points have their content back. This download is slowed
        down, and interrupted with SIGINT (as Ctrl-C does) when about half has
        come.""")
    for name in ("dp01", "dp02"):
        os.rename(lab.path(name + ".away"), lab.path(name, PACKAGE))
    demo.empty_cache()
    total = world.content.total
    process = demo.start("--download", PACKAGE, "--json", "--set",
                         "transfer.rate_limit=%dM" % max(1, (total >> 20) // 6))
    while process.poll() is None and demo.partial_bytes() < total * 0.45:
        time.sleep(0.02)
    screen.command("kill -INT %d" % process.pid)
    began = time.monotonic()
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    process.wait()
    waited = time.monotonic() - began
    demo.finish(process, False, 130, (
        "result", "bytes_received", "bytes_total", "error"))
    demo.check(waited < 1.0, "it ended after %d ms" % (waited * 1000))
    kept = demo.partial_bytes()
    demo.check(0 < kept < total and demo.published() is None,
               "kept for later: %s of %s; nothing published" % (mb(kept), mb(total)))

    screen.explain("""
        Again, without a limit. What was kept is hashed again, and only the rest is
        asked for, by ranges.""")
    mark = len(web.access_log(world.dp1))
    _, told = demo.agent("--download", PACKAGE, "--json", status=0, fields=(
        "result", "source", "bytes_total", "bytes_resumed", "bytes_received"))
    told = told or {}
    resumed, received = told.get("bytes_resumed", 0), told.get("bytes_received", 0)
    demo.check(told.get("result") == "verified" and resumed > 0
               and resumed + received == total,
               "%s kept + %s fetched = the whole content" % (mb(resumed),
                                                             mb(received)))
    ranges = [r for r in web.access_log(world.dp1)[mark:] if r["status"] == 206]
    demo.check(bool(ranges), "dp01's log has %d answers to a range" % len(ranges))
    demo.check(resumed > kept * 0.9, "%d %% of the kept bytes were of use"
               % (100 * resumed / max(kept, 1)))
    demo.check_folder(demo.published())


def tampered(demo):
    world, screen = demo.world, demo.screen
    victim = max(world.content.files, key=lambda f: world.content.sizes[f])
    screen.explain("""
        Somebody flips one bit of one file, in every copy: both distribution points
        and cloud storage. Length and time of the file stay the same.""")
    demo.empty_cache()
    for copy in demo.copies():
        path = os.path.join(copy, victim)
        shutil.copy2(path, path + ".new")   # no longer a link to the good bytes
        os.replace(path + ".new", path)
        contents.tamper(path)
    demo.shell("cmp -l %s %s | wc -l" % tuple(shlex.quote(os.path.join(p, victim))
               for p in (world.content.path, demo.copies()[0])))
    _, told = demo.agent("--download", PACKAGE, "--json", status=23, fields=(
        "result", "path", "error"))
    told = told or {}
    codes = [(a.get("error") or {}).get("code") for a in told.get("attempts", ())]
    demo.check(told.get("result") == "failed" and not told.get("path"),
               "the agent says so, and names no path")
    demo.check(len(codes) >= 3 and set(codes) == {"HASH"},
               "all %d attempts ended at the hash" % len(codes))
    error = told.get("error") or {}
    demo.check(error.get("code") == "HASH" and os.path.basename(victim)
               in error.get("text", ""),
               "the cloud's manifest has a hash for each file, so the file is named")
    _, told = demo.agent("--cache", "list", "--json", quiet=True)
    demo.check(told is not None and demo.published() is None,
               "nothing is published")


PARTS = (
    ("1. On-premises", on_premises),
    ("2. Fallback to the cloud", fallback),
    ("3. Interrupted and resumed", resume),
    ("4. Tampered content is refused", tampered),
)


# -- all of it -----------------------------------------------------------------------

def names(count):
    """`count` names in nested folders, some of them awkward ones."""
    found = [n for n in contents.AWKWARD if "empty" not in n]
    while len(found) < count:
        number = len(found)
        found.append("%s/file%04d.bin" % (FOLDERS[number % len(FOLDERS)], number))
    return found[:count]


def show(options, screen):
    screen.explain("""
        A small Configuration Manager site, all on loopback: two distribution points
        (nginx with WebDAV, one of them https), a name server (nsd), a management
        point and a cloud service (stand-ins made for the tests), cloud storage
        (nginx), a certificate authority (openssl).""")
    began = time.monotonic()
    with labs.Lab() as lab:
        screen.line()
        screen.line("  making %d files, %s, and starting the servers ..."
                    % (options.files, mb(options.size)))
        demo = Demo(labs.World(lab, "nginx", names(options.files), options.size,
                               PACKAGE, VERSION, TOKEN), screen)
        screen.line("  ready, in %s" % lab.folder)
        for title, run in PARTS:
            with demo.step(title):
                run(demo)
        if demo.failures or options.keep:
            lab.is_ours = False
            screen.line()
            screen.line("  kept: %s" % lab.folder)
    screen.line()
    for failure in demo.failures:
        screen.line("  " + screen.paint("red", failure))
    good = len(demo.passed) == len(PARTS)
    screen.line(screen.paint("green" if good else "red", "demo: %d of %d parts did "
                "what they should, %d s" % (len(demo.passed), len(PARTS),
                                            time.monotonic() - began)))
    return 0 if good else 1


def main():
    parser = argparse.ArgumentParser(description="the main job, shown on a small "
                                     "laboratory")
    parser.add_argument("--size", type=labs.size, default="320M",
                        help="of the content (320M)")
    parser.add_argument("--files", type=int, default=400, help="how many (400)")
    parser.add_argument("--keep", action="store_true", help="leave the laboratory's "
                        "folder behind")
    options = parser.parse_args()

    def leave(*_):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise SystemExit(143)

    signal.signal(signal.SIGTERM, leave)
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < 3 * options.size:
        print("demo: %s has %s free, %s are needed; TMPDIR names another folder"
              % (tempfile.gettempdir(), mb(free), mb(3 * options.size)),
              file=sys.stderr)
        return 1
    try:
        return show(options, Screen())
    except labs.LabError as error:
        print("demo: %s" % error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
