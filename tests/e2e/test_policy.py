"""Policy that is signed: by https, as a file, what becomes of it on bad days; and
scripts/make-policy, with which all of it is made here."""

import gzip
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import harness                                                      # noqa: E402
import service                                                      # noqa: E402
import content as contents                                          # noqa: E402
import httpd                                                        # noqa: E402
import pki                                                          # noqa: E402
import web                                                          # noqa: E402
from harness import (NAME, PACKAGE, VERSION, check, error_of, expect,  # noqa: E402
                     same, wants)

MAKE_POLICY = os.path.join(harness.TOP, "scripts", "make-policy")
DAY = 86400


def make_policy(*words, status=0):
    """scripts/make-policy; what it says of itself."""
    done = subprocess.run([MAKE_POLICY, *words], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True,
                          stdin=subprocess.DEVNULL)
    expect(done.returncode == status, "make-policy ended with", done.returncode,
           done.stdout, done.stderr)
    return done.stdout + done.stderr


def make_signer(folder, name, *how, key=("EC", "-pkeyopt",
                                         "ec_paramgen_curve:P-256")):
    """A self-made certificate that may sign policy: .cert, .key."""
    base = os.path.join(folder, name.replace(" ", "-"))
    pki.openssl("req", "-x509", "-newkey", key[0].lower(), *key[1:], "-nodes",
                "-keyout", base + ".key", "-out", base + ".pem", "-days", "30",
                "-subj", "/CN=" + name, *how)
    return pki.Cert(name, base + ".pem", base + ".key", base + ".pem", [name])


def sign(by, path, out, *words, at=None):
    """openssl cms -sign; at: seconds from now, with faketime's library."""
    env = dict(os.environ)
    if at is not None:
        env.update(LD_PRELOAD=service.faketime_library(), FAKETIME="%+ds" % at)
    subprocess.run(["openssl", "cms", "-sign", "-binary", "-signer", by.cert,
                    "-inkey", by.key, "-in", path, "-out", out, "-outform", "DER",
                    *words], check=True, env=env, stderr=subprocess.PIPE)


class PolicySite(harness.Small):
    """A site whose policy comes from an https server: nginx over folder www."""

    def __init__(self, source="all.cms", **settings):
        super().__init__()
        try:
            self.www, self.dir = self.path("www"), self.path("made")
            for folder in (self.www, self.dir, self.path("local")):
                os.makedirs(folder)
            self.dp = self.lab.dp_nginx()
            self.locate(self.share(self.dp))
            self.tls = self.lab.ca.server("127.0.0.1")
            self.web = self.start_web()
            self.signer = make_signer(self.lab.folder, "Policy Signer")
            self.url = "https://127.0.0.1:%d/%s" % (self.web.port, source)
            self.settings = {"policy.source": self.url,
                             "policy.signer": self.signer.cert,
                             "policy.local": self.path("local"), **settings}
            self.conf()
            self.puts = 0
        except BaseException:
            self.lab.stop()
            raise

    def start_web(self):
        return web.nginx(self.lab.parts, self.lab._own("policy-web"), "policy-web",
                         "    location / { root %s; }\n" % self.www, tls=self.tls)

    def deploy(self, version=VERSION, *words):
        """A policy file for our content in self.dir."""
        return make_policy(self.path("content", PACKAGE), "--package", PACKAGE,
                           "--version", str(version), "--out", self.dir,
                           *words).strip()

    def bundle(self, by=None, *words, at=None):
        """A signed bundle of self.dir, published."""
        plain = self.path("plain")
        make_policy("--bundle", plain, self.dir)
        sign(by or self.signer, plain, self.path("signed"), "-nodetach", *words,
             at=at)
        self.publish(self.path("signed"), "all.cms")

    def publish(self, path, name):
        """A new time for each: nginx makes the etag from it, in seconds."""
        target = os.path.join(self.www, name)
        self.puts += 1
        shutil.copy(path, target + ".new")
        os.utime(target + ".new", (1e9 + self.puts, 1e9 + self.puts))
        os.replace(target + ".new", target)

    def once(self, status=0, *words, **how):
        return wants(self.run("--once", "--json", *words, **how), status)

    def fails(self, code, *words, **how):
        """--once ends with status 3 and this code; its text."""
        error = error_of(self.once(3, *words, **how))
        same(error.get("detail"), code, "code")
        return str(error)

    def state(self):
        """What is kept: (bundle, origin)."""
        read = []
        for name in ("policy.bundle", "policy.origin"):
            path = self.path("state", name)
            read.append(open(path, "rb").read() if os.path.exists(path) else None)
        return tuple(read)

    def log(self):
        return [(r["path"] if "path" in r else r.get("target"), r["status"])
                for r in web.access_log(self.web)]


# -- by https ---------------------------------------------------------------------

@check
def bundle_by_https_is_fetched_and_its_content_arrives():
    with PolicySite() as s:
        s.deploy()
        s.bundle()
        s.once()
        s.expect_published()
        bundle, origin = s.state()
        expect(bundle.startswith(b"; cloud-dp-agent policy bundle\n"), bundle[:80])
        expect(("source %s\n" % s.url).encode() in origin, origin)
        for name in ("policy.bundle", "policy.origin"):
            same(os.stat(s.path("state", name)).st_mode & 0o7777, 0o600, name)


@check
def single_file_by_https_with_its_signature_beside_it():
    with PolicySite(source="one.ini") as s:
        path = s.deploy(VERSION, "--sign", s.signer.cert, s.signer.key)
        s.publish(path, "one.ini")
        expect("SIGNATURE" in s.fails("SIGNATURE"), "no signature there")
        same(s.state(), (None, None))
        s.publish(path + ".p7s", "one.ini.p7s")
        s.once()
        s.expect_published()


@check
def unchanged_policy_is_asked_for_with_its_etag():
    with PolicySite() as s:
        s.deploy()
        s.bundle()
        s.once()
        before = s.state()
        s.once()
        same([r["status"] for r in web.access_log(s.web)], [200, 304])
        same(s.state(), before, "kept")
        # what is damaged on our side comes anew, whatever the server says
        with open(s.path("state", "policy.bundle"), "ab") as stream:
            stream.write(b"x")
        s.once()
        same([r["status"] for r in web.access_log(s.web)], [200, 304, 200])
        same(s.state(), before, "kept")
        # and so does what other certificates have judged
        s.conf(policy__signer=make_signer(s.lab.folder, "Other").cert)
        expect("CN=Policy Signer" in s.fails("SIGNATURE"), "the signer is named")
        same([r["status"] for r in web.access_log(s.web)], [200, 304, 200, 200])
        same(s.state(), before, "kept")


@check
def policy_of_a_stranger_changes_nothing():
    with PolicySite() as s:
        stranger = make_signer(s.lab.folder, "Stranger")
        s.deploy()
        s.bundle(stranger)
        expect("CN=Stranger" in s.fails("SIGNATURE"), "the stranger is named")
        same(s.state(), (None, None))
        s.expect_nothing()
        s.bundle()
        s.once()
        before = s.state()
        # another one with our name, then our own serial number as well
        os.mkdir(s.path("twin"))
        serial = pki.openssl("x509", "-in", s.signer.cert, "-noout", "-serial")
        twin = make_signer(s.path("twin"), "Policy Signer", "-set_serial",
                           "0x" + serial.split("=")[1].strip())
        s.deploy(VERSION + 1)
        for by in (stranger, twin):
            s.bundle(by)
            s.fails("SIGNATURE")
            same(s.state(), before, "kept")
        s.bundle(stranger, "-signer", s.signer.cert, "-inkey", s.signer.key)
        s.once()
        expect(s.state() != before, "ours is good beside his")


@check
def older_policy_is_a_rollback():
    with PolicySite() as s:
        s.deploy()
        s.bundle()
        old = s.path("old.cms")
        shutil.copy(s.path("signed"), old)
        s.once()
        s.deploy(VERSION, "--name", "newer")
        s.bundle(at=3600)
        s.once()
        before = s.state()
        s.publish(old, "all.cms")
        text = s.fails("ROLLBACK")
        expect("older" in text, text)
        same(s.state(), before, "kept")
        # also when somebody has taken the bundle away
        os.unlink(s.path("state", "policy.bundle"))
        s.fails("ROLLBACK")


@check
def change_of_certificates_has_two_signers():
    with PolicySite() as s:
        new = make_signer(s.lab.folder, "New Signer", key=("RSA:3072",))
        both = s.path("both.pem")
        with open(both, "w") as stream:
            for one in (s.signer, new):
                stream.write(open(one.cert).read())
        s.deploy()
        s.conf(policy__signer=both)
        for number, by in enumerate((s.signer, new)):   # the clients know both
            s.deploy(VERSION, "--name", "name %d" % number)
            s.bundle(by)
            s.once()
            expect(b"name %d" % number in s.state()[0], "taken")
        s.deploy(VERSION, "--name", "last")              # policy bears both
        for one in (s.signer, new):
            s.conf(policy__signer=one.cert)
            make_policy("--bundle", s.path("signed"), "--sign", s.signer.cert,
                        s.signer.key, "--sign", new.cert, new.key, s.dir)
            s.publish(s.path("signed"), "all.cms")
            s.once()
            expect(b"last" in s.state()[0], "taken")


@check
def without_signer_nothing_is_asked():
    with PolicySite() as s:
        s.deploy()
        s.bundle()
        s.conf(policy__signer=None)
        expect("[policy] signer" in s.fails("CONFIG"), "named")
        run = s.run("--check-config")
        same(run.status, 3, run.err)
        expect("[policy] signer" in run.err, run.err)
        same(web.access_log(s.web), [], "requests")
        os.chmod(s.signer.cert, 0o666)
        s.conf()
        expect("chmod go-w" in s.fails("CONFIG"), "named")
        same(web.access_log(s.web), [], "requests")


@check
def server_away_and_the_kept_policy_goes_on():
    with PolicySite() as s:
        s.deploy()
        s.bundle()
        s.once()
        s.forget()
        s.web.stop()
        run = s.run("--once", "--json")
        expect(run.status not in (0, 3), "the poll fails", run)
        s.expect_published()
        s.forget()
        s.download()
        s.expect_published()
        wants(s.run("--check-config"), 0)


@check
def half_written_policy_then_the_whole():
    with PolicySite() as s:
        s.deploy()
        s.bundle()
        s.once()
        before = s.state()
        s.deploy(VERSION, "--name", "whole")
        s.bundle()
        whole = open(s.path("signed"), "rb").read()
        half = s.path("half")
        for length in (0, 1, 30, len(whole) // 2, len(whole) - 1):
            with open(half, "wb") as stream:
                stream.write(whole[:length])
            s.publish(half, "all.cms")
            s.fails("SIGNATURE")
            same(s.state(), before, "kept")
        s.publish(s.path("signed"), "all.cms")
        s.once()
        expect(b"whole" in s.state()[0], "taken")


@check
def text_and_signature_that_do_not_belong_together():
    with PolicySite(source="one.ini?x=.p7s") as s:
        path = s.deploy(VERSION, "--sign", s.signer.cert, s.signer.key)
        s.publish(path, "one.ini")
        s.publish(path + ".p7s", "one.ini.p7s")
        s.once()
        before = s.state()
        with open(path, "a") as stream:
            stream.write("; and more\n")
        s.publish(path, "one.ini")
        text = s.fails("SIGNATURE")
        expect("content changed" in text, text)
        expect("?x=" not in text, "a query may hold a secret:", text)
        same(s.state(), before, "kept")


@check
def signed_nonsense_is_not_kept():
    with PolicySite() as s:
        s.deploy()
        s.bundle()
        s.once()
        before = s.state()
        with open(os.path.join(s.dir, "bad.ini"), "w") as stream:
            stream.write("[deployment]\npackage = ABC00043\nversion = no\n")
        s.bundle()
        text = s.fails("POLICY")
        expect("bad.ini" in text and ":3" in text, text)
        same(s.state(), before, "kept")
        with open(s.path("other"), "w") as stream:
            stream.write("neither\n")
        sign(s.signer, s.path("other"), s.path("signed"), "-nodetach")
        s.publish(s.path("signed"), "all.cms")
        s.fails("POLICY")
        same(s.state(), before, "kept")


@check
def weak_or_undated_signatures_are_refused():
    with PolicySite() as s:
        s.deploy()
        for words, why in ((("-md", "sha1"), "sha1"), (("-noattr",), "attributes")):
            s.bundle(None, *words)
            expect(why in s.fails("SIGNATURE"), why)
        s.bundle(at=-2 * DAY)
        expect("was not valid" in s.fails("SIGNATURE"), "before its certificate")
        s.bundle(at=2 * DAY)
        expect("clock" in s.fails("SIGNATURE"), "from the future")
        same(s.state(), (None, None))


@check
def bundle_far_larger_than_the_ring():
    with PolicySite() as s:
        s.deploy()
        with open(os.path.join(s.dir, "list.txt"), "wb") as stream:
            stream.write(os.urandom(30 << 20))
        for words in ((), ("-outform", "PEM"), ("-stream",)):
            s.bundle(None, *words)
            s.once()
            same(s.state()[0], open(s.path("plain"), "rb").read(), "bundle")
        with open(os.path.join(s.dir, "more.txt"), "wb") as stream:
            stream.truncate(40 << 20)      # 70 MiB: make-policy would not
        before = s.state()
        with open(s.path("plain"), "ab") as stream:
            stream.truncate(70 << 20)
        sign(s.signer, s.path("plain"), s.path("signed"), "-nodetach")
        s.publish(s.path("signed"), "all.cms")
        s.fails("SIGNATURE")
        same(s.state(), before, "kept")
        make_policy("--bundle", s.path("plain"), s.dir, status=1)


@check
def source_changed_and_nothing_of_the_old_is_left():
    with PolicySite() as s:
        s.deploy()
        s.bundle()
        s.once()
        s.forget()
        s.conf(policy__source=s.url + "2")
        run = s.run("--download", PACKAGE, "--json")
        wants(run, 4)   # nobody names a hash
        s.conf()
        s.download()


@check
def clock_three_years_wrong_then_right():
    with PolicySite() as s:
        library = service.faketime_library()
        s.deploy()
        s.bundle()

        def clock(days):
            return {"LD_PRELOAD": library, "FAKETIME": "%+dd" % days,
                    "FAKETIME_NO_CACHE": "1"}
        text = s.fails("SIGNATURE", env=clock(-3 * 365))
        expect("clock" in text, text)
        same(s.state(), (None, None))
        s.once()
        before = s.state()
        s.deploy(VERSION, "--name", "second")
        s.bundle()
        s.once(env=clock(3 * 365))
        expect(b"second" in s.state()[0], "taken")
        s.deploy(VERSION, "--name", "third")
        s.bundle()
        s.once()
        expect(b"third" in s.state()[0], "taken")
        expect(s.state() != before, "kept")


@check
def lies_of_the_policy_server():
    class Hostile(httpd.Server):
        """What it answers is its .answer."""
        def respond(self, connection, request):
            status, headers, body = self.answer
            connection.send(("HTTP/1.1 %s\r\n" % status).encode() + b"".join(
                ("%s: %s\r\n" % h).encode() for h in headers) + b"\r\n" + body)
            return False

    with PolicySite() as s:
        server = Hostile(tls=s.tls)
        s.lab.parts.adopt("hostile", server)
        s.conf(policy__source="https://127.0.0.1:%d/all.cms" % server.port)
        s.deploy()
        s.bundle()
        good = open(s.path("signed"), "rb").read()

        def answers(want, status, headers=(), body=good, length=None):
            server.answer = (status, [("Content-Length", len(body) if length is None
                                       else length), *headers], body)
            run = s.run("--once", "--json")
            expect(run.status != 0, status, headers, "was taken")
            same(error_of(run)["detail"], want, "%s %s" % (status, headers))
            same(s.state(), (None, None))

        packed = gzip.compress(good)
        answers("HTTP", "200 OK", [("Content-Encoding", "gzip")], packed)
        answers("HTTP", "200 OK", [("Content-Length", 1)])
        answers("REDIRECT", "302 Found", [("Location", "http://127.0.0.1/x")])
        answers("STATUS", "304 Not Modified", body=b"")
        answers("STATUS", "206 Partial Content")
        answers("ABSENT", "404 Not Found")
        answers("DENIED", "403 Forbidden")
        answers("BUSY", "503 Busy", [("Retry-After", "7")])
        answers("LIMIT", "200 OK", length=1 << 40)
        run = s.run("--once", "--json")   # it announced more than it sent
        expect(run.status != 0, run)
        server.answer = ("200 OK", [("ETag", '"%s"' % ("e" * 300))], good)
        s.once()                          # its etag is too long to be sent back
        expect(b"\netag " not in s.state()[1], s.state()[1])


@check
def url_without_https_is_refused():
    with PolicySite() as s:
        s.conf(policy__source="http://127.0.0.1/x")
        wants(s.run("--check-config"), 3)
        s.conf()
        wants(s.run("--once", "--policy", "http://127.0.0.1/x"), 3)


# -- on disk ----------------------------------------------------------------------

@check
def local_file_must_be_signed_where_a_signer_is_set():
    with PolicySite() as s:
        path = s.deploy(VERSION, "--sign", s.signer.cert, s.signer.key)
        s.conf(policy__source=path)
        s.download()
        s.expect_published()
        s.forget()
        stranger = make_signer(s.lab.folder, "Stranger")
        sign(stranger, path, path + ".p7s")
        run = s.download(status=3)
        same(error_of(run)["detail"], "SIGNATURE")
        os.unlink(path + ".p7s")
        run = s.download(status=3)
        same(error_of(run)["detail"], "SIGNATURE")
        expect(".p7s" in str(error_of(run)), "what is missing is named")
        run = wants(s.run("--check-config"), 3)
        expect(".p7s" in run.out + run.err, run)
        s.expect_nothing()
        # in it
        sign(s.signer, path, s.path("one.cms"), "-nodetach")
        s.conf(policy__source=s.path("one.cms"))
        s.download()
        s.expect_published()
        # a folder needs none
        s.forget()
        s.conf(policy__source=s.dir)
        s.download()


@check
def local_signed_bundle():
    with PolicySite() as s:
        s.deploy()
        path = s.path("all.cms")
        make_policy("--bundle", path, "--sign", s.signer.cert, s.signer.key, s.dir)
        s.conf(policy__source=path)
        s.download()
        s.expect_published()
        os.chmod(path, 0o664)
        run = s.download(status=3)
        expect("chmod go-w" in str(error_of(run)), error_of(run))


@check
def folder_that_others_can_write_is_refused():
    with PolicySite() as s:
        s.deploy()
        s.conf(policy__source=s.dir, policy__signer=None)
        os.chmod(s.dir, 0o777)
        run = s.download(status=3)
        same(error_of(run)["detail"], "POLICY")
        os.chmod(s.dir, 0o755)
        s.download()


@check
def kept_policy_that_others_can_write_is_refused():
    with PolicySite() as s:
        s.deploy()
        s.bundle()
        s.once()
        os.chmod(s.path("state", "policy.bundle"), 0o666)
        run = wants(s.run("--check-config"), 3)
        expect("policy.bundle" in run.out + run.err, run)
        s.once(31)


# -- make-policy --------------------------------------------------------------------

def hash_by_hand(folder):
    """The pipe of agent-policy(5)."""
    return subprocess.run(
        "find . -type f -printf '%P\\0' | LC_ALL=C sort -z | xargs -0r sha256sum -- "
        "| sha256sum", shell=True, cwd=folder, check=True,
        stdout=subprocess.PIPE).stdout.split()[0].decode()


def values_of(path):
    return dict(line.strip().split(" = ", 1) for line in open(path) if " = " in line)


@check
def make_policy_writes_hash_size_and_list():
    with PolicySite() as s:
        folder = s.path("content", PACKAGE)
        path = s.deploy(VERSION, "--name", "Contoso VPN", "--purpose", "available",
                        "--available", "2026-01-01T00:00:00Z", "--deadline",
                        "2026-01-02T00:00:00+01:00", "--priority", "high",
                        "--cloud", "never")
        values = values_of(path)
        same(values["hash"], "sha256:" + hash_by_hand(folder))
        same(values["hash"], s.content.hash)
        same(values["size"], str(s.content.total))
        same(values["files"], NAME + ".sha256")
        same(open(os.path.join(s.dir, NAME + ".sha256"), "rb").read(),
             s.content.listing, "list")
        same((values["purpose"], values["priority"], values["cloud"]),
             ("available", "high", "never"))
        s.conf(policy__source=s.dir, policy__signer=None)
        wants(s.run("--check-config"), 0)
        s.download()
        s.expect_published()


@check
def make_policy_takes_id_and_version_from_the_folder():
    with PolicySite() as s:
        folder = s.path("ABC00077.12")
        os.mkdir(folder)
        with open(os.path.join(folder, "-"), "w") as stream:
            stream.write("not standard input\n")
        path = make_policy(folder, "--out", s.dir).strip()
        values = values_of(path)
        same((values["package"], values["version"]), ("ABC00077", "12"))
        same(values["hash"], contents.folder_hash(folder))


@check
def make_policy_refuses_what_it_cannot_say():
    with PolicySite() as s:
        folder = s.path("bad")

        def refuses(what, *words, status=1):
            text = make_policy(folder, "--package", PACKAGE, "--version", "1", "--out",
                               s.dir, *words, status=status)
            expect(what in text, what, "is not in", text)
            same(os.listdir(s.dir), [], "left behind")

        for make, what in (
                (lambda p: open(os.path.join(p, "a\\b"), "w").close(), "backslash"),
                (lambda p: open(os.path.join(p, "a\nb"), "w").close(), "line feed"),
                (lambda p: open(os.path.join(p, "a\rb"), "w").close(), "carriage"),
                (lambda p: os.mkdir(os.path.join(p, "sub")), "empty folder"),
                (lambda p: os.symlink("good", os.path.join(p, "l")), "neither"),
                (lambda p: os.mkfifo(os.path.join(p, "f")), "neither")):
            os.mkdir(folder)
            with open(os.path.join(folder, "good"), "w") as stream:
                stream.write("x")
            make(folder)
            refuses(what)
            shutil.rmtree(folder)
        os.mkdir(folder)
        refuses("empty folder")
        with open(os.path.join(folder, "good"), "w") as stream:
            stream.write("x")
        refuses("--name", "--name", "a ; b", status=2)
        refuses("--name", "--name", "a\n[content]", status=2)
        refuses("--version", "--version", "0", status=2)
        refuses("--package", "--package", "../x", status=2)
        refuses("--deadline", "--deadline", "tomorrow", status=2)
        refuses("--purpose", "--purpose", "maybe", status=2)
        refuses("--nonsense", "--nonsense", status=2)
        refuses("--available", "--available", "2026-01-02T00:00:00Z", "--deadline",
                "2026-01-01T00:00:00Z", status=2)
        other = make_signer(s.lab.folder, "Other")
        refuses("openssl", "--sign", s.signer.cert, other.key)
        expect("usage" in make_policy("--help"), "help")


if __name__ == "__main__":
    sys.exit(harness.main())
