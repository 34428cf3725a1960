"""The agent and its peers: how each is told to do the same work.

A client is a class with `name` and `argv(job)`; `lacks()` says why it cannot run here.
Each peer gets the options that are best for it; what a peer cannot do itself (the
hash, fsync) is done by the command that people put behind it.
"""

import os
import shlex
import shutil

import origin

BUILD = os.environ.get("BENCH_BUILD", os.path.join(origin.TOP, "build", "bench"))
q = shlex.quote


class Job:
    """What is to be done in one run: fetch the content of `site` into `folder`.

    is_disk  the result must be on stable storage at the end
    resume   bytes of the one file that are there already, or 0
    """

    def __init__(self, site, folder, is_disk=False, resume=0):
        self.site, self.folder = site, folder
        self.is_disk, self.resume = is_disk, resume
        self.files, self.digests = site.content.files, site.content.digests
        self.out = os.path.join(folder, "out")

    def url(self, name):
        return self.site.url + "/" + name

    def write(self, name, text):
        path = os.path.join(self.folder, name)
        with open(path, "w") as stream:
            stream.write(text)
        return path

    def copy_to(self, path):
        """The first `resume` bytes of the one file."""
        with open(os.path.join(self.site.content.path, self.only), "rb") as source, \
                open(path, "wb") as target:
            left = self.resume
            while left:
                left -= os.sendfile(target.fileno(), source.fileno(), None,
                                    min(left, 1 << 26))

    @property
    def only(self):
        return self.files[0]

    def target(self, name):
        return os.path.join(self.out, name)


class Client:
    program = None

    def lacks(self):
        if self.program and not shutil.which(self.program):
            return "%s is not installed" % self.program
        return None

    def found(self, job):
        """Where the content lies afterwards."""
        return job.out

    def seed(self, job):
        """Leave the first bytes of the one file, as an interrupted run leaves them."""
        os.makedirs(job.out, exist_ok=True)
        job.copy_to(job.target(job.only))


class Agent(Client):
    name = "agent"

    def argv(self, job):
        return job.site.agent_argv(job.folder)

    def found(self, job):
        return job.site.published(job.folder)

    def seed(self, job):
        draft = os.path.join(job.folder, "cache", "partial", "%s.%d" % (
            origin.PACKAGE, origin.VERSION))
        os.makedirs(draft)
        job.copy_to(os.path.join(draft, job.only))


# -- peers: a line of shell each, as people write it -----------------------------

class Peer(Client):
    def argv(self, job):
        os.makedirs(job.out, exist_ok=True)
        steps = [self.fetch(job)] + self.check(job)
        if job.is_disk:
            # one file: fsync of it; many: one syncfs is cheaper than as many fsyncs
            steps.append("sync %s" % q(job.target(job.only)) if len(job.files) == 1
                         else "sync -f %s" % q(job.out))
        if len(steps) == 1:
            return ["/bin/sh", "-c", "exec " + steps[0]]
        return ["/bin/sh", "-c", " && ".join(steps)]

    def check(self, job):
        return []


def coreutils(job):
    """sha256sum over everything."""
    lines = "".join("%s  %s\n" % (job.digests[f], f) for f in job.files)
    return ["cd %s && sha256sum --quiet -c %s" % (
        q(job.out), q(job.write("sums", lines)))]


def openssl(job):
    """openssl dgst over everything, and a comparison with what is wanted."""
    want = job.write("sums", "".join(
        "%s *%s\n" % (job.digests[f], f) for f in job.files))
    names = job.write("names", "\0".join(job.files))
    return ["cd %s && xargs -0 openssl dgst -sha256 -r <%s | cmp - %s" % (
        q(job.out), q(names), q(want))]


class Curl(Peer):
    program = "curl"

    def __init__(self, check, word, http="--http1.1"):
        self.name = "curl%s, %s" % ({"--http1.1": "", "--http2": " (h2)"}[http], word)
        self.check, self.http = check, http

    def fetch(self, job):
        always = "curl -q -sS -f %s --cacert %s" % (self.http, q(job.site.ca))
        if len(job.files) == 1:
            return "%s %s-o %s %s" % (always, "-C - " if job.resume else "",
                                      q(job.target(job.only)), q(job.url(job.only)))
        plan = job.write("plan", "".join("url = \"%s\"\noutput = \"%s\"\n" % (
            job.url(f), job.target(f)) for f in job.files))
        # 16 at a time over HTTP/1.1; over HTTP/2, one connection for all
        return "%s -Z --parallel-max %d --create-dirs -K %s" % (
            always, 16 if self.http == "--http1.1" else 100, q(plan))


class Aria2(Peer):
    """Checks the hash itself, by reading again what it wrote."""
    program = "aria2c"

    def __init__(self, connections=1, files=16):
        self.name = "aria2, %d connection%s" % (connections,
                                                "s" if connections > 1 else "")
        self.connections, self.at_once = connections, files

    def fetch(self, job):
        # space first is cheaper on a disk, where the file is not a small one
        always = ("aria2c --no-conf -q --ca-certificate=%s --file-allocation=%s "
                  "--async-dns=false --no-netrc --check-certificate=true "
                  "--console-log-level=error --summary-interval=0 -k 1M -x %d -s %d"
                  % (q(job.site.ca), "falloc" if len(job.files) == 1 else "none",
                     self.connections, self.connections))
        if len(job.files) == 1:
            return "%s %s --checksum=sha-256=%s -d %s -o %s %s" % (
                always, "-c" if job.resume else "", job.digests[job.only], q(job.out),
                q(job.only), q(job.url(job.only)))
        plan = job.write("plan", "".join(
            "%s\n out=%s\n checksum=sha-256=%s\n" % (job.url(f), f, job.digests[f])
            for f in job.files))
        return "%s -j %d -d %s -i %s" % (always, self.at_once, q(job.out), q(plan))


class Aria2Many(Aria2):
    """-j 16: as many files at once."""

    def __init__(self):
        super().__init__(1)
        self.name = "aria2 -j16"


class Wget2(Peer):
    """16 threads where there are many files; its own check never ends on a wrong
    checksum, so sha256sum does it."""
    program = "wget2"

    def __init__(self, check, word):
        self.name, self.check = "wget2, " + word, check

    def fetch(self, job):
        always = ("wget2 --no-config -q --ca-certificate=%s --no-hsts --no-ocsp "
                  "--tries=1 --no-netrc" % q(job.site.ca))
        if len(job.files) == 1:
            return "%s --no-http2 -O %s %s" % (always, q(job.target(job.only)),
                                               q(job.url(job.only)))
        plan = job.write("plan", "".join(job.url(f) + "\n" for f in job.files))
        # two folders of the URL are the share's and the package's
        return "%s --max-threads=16 -x -nH --cut-dirs=2 -P %s -i %s" % (
            always, q(job.out), q(plan))


class Librepo(Peer):
    name = "librepo"

    def lacks(self):
        if not os.path.exists(os.path.join(BUILD, "librepo_get")):
            return "not built: " + librepo_why()
        return None

    def fetch(self, job):
        for folder in {os.path.dirname(job.target(f)) for f in job.files}:
            os.makedirs(folder, exist_ok=True)
        plan = job.write("plan", "".join(
            "%s  %s\n" % (job.digests[f], f) for f in job.files))
        return "%s %s %s %s <%s" % (q(os.path.join(BUILD, "librepo_get")),
                                    q(job.site.ca), q(job.site.url), q(job.out),
                                    q(plan))


def librepo_why():
    try:
        with open(os.path.join(BUILD, "librepo.log")) as stream:
            return stream.read().strip() or "no reason given"
    except OSError:
        return "tests/bench/librepo did not run"


AGENT = Agent()
CURL_OPENSSL = Curl(openssl, "openssl dgst")
CURL_SHA256SUM = Curl(coreutils, "sha256sum")
CURL2_OPENSSL = Curl(openssl, "openssl dgst", "--http2")
ARIA2, ARIA2_4, ARIA2_8 = Aria2(), Aria2(4), Aria2(8)
ARIA2_MANY = Aria2Many()
WGET2 = Wget2(coreutils, "sha256sum")
WGET2_OPENSSL = Wget2(openssl, "openssl dgst")
LIBREPO = Librepo()
