#!/usr/bin/env python3
"""All verbs but --download, --locate and --replay; the command line, settings, policy,
the cache, the log files, and what may never be written anywhere."""

import os
import re
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from harness import *                                               # noqa: E402,F403
import harness                                                      # noqa: E402

SERVICE = labs.SERVICE.lower()


def bare(*args, status=None, env=None):
    """The agent without any --config."""
    run = agentconf.run_agent(None, list(args), env=env)
    return wants(run, status) if status is not None else run


def ask(s, *args, status=0, **how):
    run = s.run(*args, "--json", **how)
    wants(run, status)
    expect(run.json is not None, "no JSON:", run.out[:300])
    return run


# -- the command line ----------------------------------------------------------------------

USAGE = (
    (), ("--download",), ("--download", "ABC00042", "more"), ("--bogus",),
    ("--download", "ABC00042", "--locate", "ABC00042"), ("ABC00042",),
    ("--download", "../../etc/passwd"), ("--download", "ABC00042."),
    ("--download", "ABC00042.0"), ("--download", "ABC 00042"),
    ("--download", ""), ("--download", "ABC00042", "--progress", "sometimes"),
    ("--download", "ABC00042", "--hash", "md5:00"),
    ("--download", "ABC00042", "--hash", "sha256:00"),
    ("--download", "ABC00042", "--hash", "ab" * 32),
    ("--download", "ABC00042", "--allow-unverified"),
    ("--download", "ABC00042", "--from"), ("--download", "ABC00042", "--from", ""),
    ("--locate", "ABC00042", "--to", "/tmp/x"), ("--cache",), ("--cache", "burn"),
    ("--cache", "remove"), ("--cache", "list", "ABC00042"),
    ("--check-chain", "/etc/passwd"), ("--resolve",), ("--resolve", "a b"),
    ("--resolve", ""), ("--resolve", "ftp://x/"), ("--resolve", "host:99999"),
    ("--check-config", "--at", "now"), ("--check-chain", "x", "--name", "y", "--at", "z"),
    ("--set", "nonsense", "--check-config"), ("--set", "a.b=c", "--check-config"),
    ("--set", "cloud.allow=maybe", "--check-config"),
    ("--set", "cache.size=-1", "--check-config"), ("--replay",),
    ("--set", "transfer.connections=0", "--download", "ABC00042"),
    ("--set", "dns.server=nonsense:x", "--locate", "ABC00042"),
    ("--help", "me"), ("--version", "1"), ("--json",), ("--quiet", "--verbose"),
    ("--daemon", "now"), ("--daemon", "--progress", "bar"), ("--why",), ("--stop",),
    ("--why", "../x"), ("--stop", "../x"), ("--status", "../x"),
    ("--status", "ABC00042", "more"), ("--history", "ABC00042"), ("--poll", "now"),
    ("--once", "ABC00042"), ("--status", "--dry-run"), ("--poll", "--policy", "/x"),
)


@check
def usage_errors():
    for words in USAGE:
        for more in ((), ("--json",)):
            run = bare(*words, *more)
            same(run.status, 2, "%s: %s" % (words, run.err))
            same(run.out, "", "stdout of %s" % (words,))
            expect(run.err.startswith("agent: "), words, run.err)


@check
def service_verbs_without_a_service():
    """they look at what there is, leave nothing behind, and say that none runs"""
    with Small(mp=False) as s:
        for name in ("state", "cache"):
            os.rmdir(s.path(name))
        for words in (("--status",), ("--status", PACKAGE), ("--why", PACKAGE),
                      ("--history",), ("--once", "--dry-run")):
            wants(s.run(*words), 0)
            same(ask(s, *words).json["error"], None, words)
        expect("no service is running" in s.run("--status").out, "not said")
        for words in (("--poll",), ("--stop", PACKAGE)):
            run = ask(s, *words, status=31)
            same(error_of(run)["code"], "STATE")
            expect("no service" in run.err, run.err)
        for name in ("state", "cache"):
            expect(not os.path.exists(s.path(name)), name, "was made")


@check
def help_and_version():
    run = bare("--help", status=0)
    for word in ("--download", "--locate", "--resolve", "--verify-server", "--check-chain",
                 "--diagnose", "--replay", "--daemon", "--once", "--status", "--why",
                 "--history", "--poll", "--stop", "--cache", "--check-config", "--version", "--config",
                 "--policy", "--set", "--to", "--hash", "--allow-unverified", "--from",
                 "--dry-run", "--json", "--progress", "--quiet", "--verbose", "--ca",
                 "--crl", "--at", "--name"):
        expect(word in run.out, word, "is not in --help")
    same(run.err, "")
    run = bare("--version", status=0)
    expect(run.out.strip() and run.out.count("\n") == 1, run.out)


@check
def options_in_any_order_and_with_equals():
    with Small(mp=False) as s:
        for words in (["--json", "--config=" + s.lab.conf, "--check-config"],
                      ["--check-config", "--json", "--config", s.lab.conf],
                      ["--config", s.lab.conf, "--set=cloud.allow=no", "--check-config"]):
            bare(*words, status=0)


@check
def a_closed_standard_output():
    with Small(mp=False) as s:
        argv = [agentconf.AGENT, "--check-config", "--config", s.lab.conf]
        with open("/dev/full", "w") as full:
            done = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE)
        expect(done.returncode not in (0, -13), done.returncode)


# -- settings and policy -------------------------------------------------------------------------

@check
def all_problems_in_one_run():
    with Small(mp=False) as s:
        conf = s.path("bad.conf")
        with open(conf, "w") as out:
            out.write("[site]\ncode = TOOLONG\nmanagement_point = ftp://x\n"      # 2, 3
                      "color = blue\n[nowhere]\nx = 1\n"                         # 4, 5
                      "[cloud]\nallow = maybe\n"                                 # 8
                      "[transfer]\nconnections = 100000\nstall_timeout = 5y\n"   # 10, 11
                      "[cache]\nsize = lots\n"                                   # 13
                      "[tls]\nminimum = 1.0\nprofile = none\n"                   # 15, 16
                      "[policy]\nsource = " + s.path("policy.d") + "\n")
        with open(s.path("policy.d", "bad.ini"), "w") as out:
            out.write("[deployment]\nid = X\npackage = ../x\nversion = three\n"
                      "purpose = maybe\n[content]\nhash = md5:00\nsize = big\n"
                      "files = /etc/passwd\n[sources]\ncloud = always\n[x]\ny = 1\n")
        run = bare("--check-config", "--config", conf, status=3)
        lines = {int(n) for n in re.findall(r"bad\.conf:(\d+)", run.err)}
        missing = {3, 4, 8, 10, 11, 13, 15, 16} - lines
        expect(not missing, "lines without a problem:", sorted(missing), run.err)
        expect(5 in lines or 6 in lines, "the unknown section", run.err)
        lines = {int(n) for n in re.findall(r"bad\.ini:(\d+)", run.err)}
        missing = {3, 4, 5, 7, 8, 11} - lines
        expect(not missing, "policy lines:", sorted(missing), run.err)
        run = bare("--check-config", "--config", conf, "--json", status=3)
        expect(run.json and len(run.json["problems"]) >= 12, run.out[:300])
        same(run.json["error"]["code"], "CONFIG")
        other = bare("--download", PACKAGE, "--config", conf, "--json", status=3)
        expect(other.json["error"]["exit"] == 3, other.out)


@check
def settings_that_cannot_be_read():
    with Small(mp=False) as s:
        bare("--check-config", "--config", s.path("nobody"), status=3)
        bare("--check-config", "--config", s.lab.folder, status=3)
        for text in (b"code = ABC\n", b"[site\ncode = A\n", b"[site]\ncode\n",
                     b"[site]\ncode = " + b"A" * 100000 + b"\n", b"[site]\n\0\n",
                     b"[site]\ncode = ABC\ncode = DEF\n"):
            with open(s.path("x.conf"), "wb") as out:
                out.write(text)
            run = bare("--check-config", "--config", s.path("x.conf"), status=3)
            expect("x.conf:" in run.err, text[:30], run.err)


@check
def settings_with_crlf_comments_and_a_mark():
    with Small(mp=False) as s:
        with open(s.lab.conf, "rb") as stream:
            text = stream.read()
        with open(s.path("x.conf"), "wb") as out:
            out.write(b"; a comment\r\n" + text.replace(b"\n", b"\r\n")
                      + b"[tls]\r\nprofile = standard ; sloppy\r\n")
        run = bare("--check-config", "--config", s.path("x.conf"), "--json", status=0)
        have = {x["key"]: x["value"] for x in run.json["settings"]}
        same(have["tls.profile"], "standard")


@check
def origins():
    with Small(mp=False) as s:
        run = s.run("--check-config", "--json", "--set", "dns.tries=5", "--set",
                    "cloud.suffix=a.example", "--set", "cloud.suffix=b.example",
                    "--set", "proxy.url=none")
        wants(run, 0)
        have = {}
        for x in run.json["settings"]:
            have.setdefault(x["key"], []).append((x["value"], x["origin"]))
        same(have["dns.tries"], [("5", "--set")])
        same(have["dns.max_hops"], [("8", "default")])
        same([v for v, _ in have["cloud.suffix"]], ["a.example", "b.example"])
        expect(re.search(r"agent\.conf:\d+$", have["site.code"][0][1]), have["site.code"])
        text = s.run("--check-config")
        expect(re.search(r"^site\.code = ABC\s+; .*agent\.conf:2$", text.out, re.M),
               text.out[:300])
        expect(re.search(r"^transfer\.attempts = 3\s+; default$", text.out, re.M),
               "default")


@check
def proxies_of_the_environment():
    with Small(mp=False) as s:
        s.conf(proxy__url=None)
        run = s.run("--check-config", "--json", env={"https_proxy":
                    "http://user:s3cret-pw@proxy.example:3128"})
        expect("s3cret-pw" not in run.out + run.err, "a password is shown")
        run = s.run("--check-config", "--json",
                    env={"https_proxy": "http://proxy.example:3128"})
        wants(run, 0)
        expect("proxy.example:3128" in run.out and "environment" in run.out,
               "the environment is not named", run.out[-900:])


@check
def set_overrides():
    with Small() as s:
        s.locate("http://dp01.example.net/SMS_DP_SMSPKG$/" + PACKAGE)
        ask(s, "--locate", PACKAGE, "--set", "site.code=QQQ")
        same([r for r in s.mp.requests() if "site" in r][-1]["site"], "QQQ")
        run = s.run("--locate", PACKAGE, "--json", "--set", "site.kode=QQQ")
        wants(run, 2)
        same(run.out, "", "stdout")
        expect("site.kode" in run.err, run.err)
        ask(s, "--locate", PACKAGE, "--set", "site.management_point=http://127.0.0.1:1",
            status=10)


@check
def policy_option():
    with Site() as s:
        other = s.path("other")
        os.makedirs(other)
        ini = os.path.join(other, "a.ini")
        os.rename(s.world.policy, ini)
        s.download(status=4)
        s.download("--policy", other)
        s.forget()
        s.download("--policy", ini)
        s.download("--policy", s.path("nobody"), status=3)


@check
def policy_that_others_may_write():
    if os.geteuid() != 0:
        skip("for root")
    with Site() as s:
        for path, mode in ((s.world.policy, 0o666), (s.path("policy.d"), 0o777)):
            was = os.stat(path).st_mode & 0o777
            os.chmod(path, mode)
            run = s.run("--download", PACKAGE, "--json")
            wants(run, 3)
            expect(os.path.basename(path) in run.err, run.err)
            os.chmod(path, was)
        s.download()


@check
def two_policies_for_one_content():
    with Site() as s:
        s.lab.policy(PACKAGE, VERSION, None, file="second", hash="sha256:" + "ab" * 32)
        run = s.download(status=3)
        expect("second.ini" in run.err, run.err)


@check
def no_hash():
    with Site() as s:
        s.lab.policy(PACKAGE, VERSION, None)
        run = s.download(status=4)
        same((error_of(run)["code"], run.json["result"]), ("NO_HASH", "failed"))
        expect(".ini" in run.err or "policy" in run.err, run.err)
        same(s.traffic(), (0, 0, 0, 0, 0), "requests")


@check
def files_of_the_settings_that_cannot_be_read():
    """The setting is named, and the file."""
    with Site() as s:
        for key, word in (("tls.ca_file", "ca_file"), ("tls.crl_file", "crl_file"),
                          ("client.token_file", "token_file")):
            for path in (s.path("nobody"), s.lab.folder, "/dev/null"):
                run = s.download("--set", "%s=%s" % (key, path), status=3)
                same(error_of(run)["code"], "CONFIG")
                expect(path in run.err, key, run.err)
                expect(word in run.err or path != s.path("nobody"), key, run.err)
        same(s.traffic(), (0, 0, 0, 0, 0), "requests")
        run = s.run("--download", PACKAGE, "--json", "--set", "client.certificate=/x")
        wants(run, 2)


# -- names -----------------------------------------------------------------------------------------

def expect_readme_chain(walk):
    same([(h["owner"].lower(), h["target"].lower()) for h in walk["hops"]],
         [(SERVICE, labs.ALIAS)])
    same(walk["canonical"].lower(), labs.ALIAS)
    same([a["address"] for a in walk["addresses"]], ["127.0.0.1"])
    for hop in walk["hops"]:
        for name in ("owner", "target", "ttl_s", "server", "duration_ms"):
            expect(name in hop, name)
    # What a resolver remembers has grown older.
    expect(280 <= walk["hops"][0]["ttl_s"] <= 300, walk["hops"])


@check
def resolve_on_nsd_knot_and_unbound():
    with Small(mp=False) as s:
        nsd = s.lab.dns_nsd(labs.records(), labs.ZONES)
        knot = s.lab.dns_knot(labs.records(), labs.ZONES)
        unbound = s.lab.dns_unbound(nsd)
        for server in (nsd, knot, unbound):
            s.dns = [server]
            s.conf()
            for name in (labs.SERVICE, labs.SERVICE + ".", labs.SERVICE + ":8443",
                         "https://%s/downloadrestservice.svc" % labs.SERVICE):
                run = ask(s, "--resolve", name)
                same(sorted(set(run.json) & {"name", "hops", "canonical", "addresses",
                                             "error"}),
                     ["addresses", "canonical", "error", "hops", "name"])
                expect_readme_chain(run.json)
                same(run.json["hops"][0]["server"], str(server))
            text = s.run("--resolve", labs.SERVICE)
            wants(text, 0)
            expect(re.search(r"(?i)^wallacefalls.contoso.com\s+CNAME\s+wallacefalls."
                             r"cloudapp.net", text.out, re.M), text.out)
            expect("127.0.0.1" in text.out, text.out)


@check
def resolve_says_what_is_wrong():
    records = labs.records() + [
        ("dead.contoso.com", "CNAME", "gone.cloudapp.net"),
        ("loop1.contoso.com", "CNAME", "loop2.contoso.com"),
        ("loop2.contoso.com", "CNAME", "loop1.contoso.com"),
        ("text.contoso.com", "TXT", "\"x\"")]
    records += [("h%d.contoso.com" % n, "CNAME", "h%d.contoso.com" % (n - 1))
                for n in range(1, 11)] + [("h0.contoso.com", "A", "127.0.0.1")]
    with Small(mp=False) as s:
        for make in (s.lab.dns_nsd, s.lab.dns_knot):
            s.dns = [make(records, labs.ZONES)]
            s.conf()
            for name, detail in (("nobody.contoso.com", "DNS_NXDOMAIN"),
                                 ("dead.contoso.com", "DNS_DANGLING"),
                                 ("loop1.contoso.com", "DNS_LOOP"),
                                 ("text.contoso.com", "DNS_NODATA"),
                                 ("h9.contoso.com", "DNS_HOPS")):
                run = ask(s, "--resolve", name, status=20)
                error = error_of(run)
                same((error["code"], error["detail"], error["step"]),
                     ("DNS", detail, "resolve"), name)
                expect(name in run.err, run.err)
            run = ask(s, "--resolve", "dead.contoso.com", status=20)
            expect("gone.cloudapp.net" in error_of(run)["text"], error_of(run))
            same(run.json["hops"][0]["target"].lower(), "gone.cloudapp.net")
            same(len(ask(s, "--resolve", "h8.contoso.com").json["hops"]), 8)


@check
def resolve_of_addresses():
    with Small(mp=False) as s:
        s.names()
        for name in ("127.0.0.1", "127.0.0.1:80", "http://[::1]:8080/x"):
            run = ask(s, "--resolve", name)
            same(run.json["hops"], [])
            expect(run.json["addresses"][0]["address"] in ("127.0.0.1", "::1"), run.out)


@check
def resolve_with_several_servers():
    with Small(mp=False) as s:
        good = s.lab.dns_nsd(labs.records(), labs.ZONES)
        dead = "127.0.0.1:%d" % processes.free_port(udp=True)
        s.dns = [dead, good]
        s.conf()
        expect_readme_chain(ask(s, "--resolve", labs.SERVICE).json)
        s.dns = [dead]
        s.conf(dns__timeout="1s", dns__tries="1")
        ask(s, "--resolve", labs.SERVICE, status=20)


@check
def resolve_with_cloud_rules():
    with Small(mp=False) as s:
        s.names()
        s.conf(cloud__suffix=["elsewhere.net"])
        ask(s, "--resolve", labs.SERVICE)
        run = ask(s, "--resolve", labs.SERVICE, "--from", "cloud", status=20)
        same(error_of(run)["detail"], "DNS_SUFFIX")


# -- certificates ------------------------------------------------------------------------------------

@check
def verify_server():
    with Small(mp=False) as s:
        ca, host = s.lab.ca, "dp02.example.net"
        s.names()

        def verify(tls, status=0, name=host):
            part = s.lab.dp_nginx(tls=tls)
            run = ask(s, "--verify-server", "%s:%d" % (name, part.port), status=status)
            text = s.run("--verify-server", "%s:%d" % (name, part.port))
            same(text.status, status)
            s.lab.parts.stop(part)
            return run.json["tls"], error_of(run), text

        tls, error, text = verify(ca.server(host))
        same((tls["verified"], tls["name_checked"]), (True, host))
        expect(tls["version"] in ("TLSv1.3", "1.3"), tls["version"])
        expect(len(tls["chain"]) >= 2, tls["chain"])
        for one in tls["chain"]:
            for field in ("subject", "issuer", "not_before", "not_after", "names",
                          "problem"):
                expect(field in one, field)
            same(one["problem"], None)
        same(tls["chain"][0]["names"], [host])
        expect("trusted" in text.out, text.out)
        for tls, word, detail in (
                (ca.expired(host), "expired", "TLS_TIME"),
                (ca.not_yet(host), "not", "TLS_TIME"),
                (ca.wrong_name(), "name", "TLS_NAME"),
                (ca.cn_only(host), "name", None),
                (ca.no_server_eku(host), "", "TLS_CHAIN"),
                (ca.missing_intermediate(host), "issuer", "TLS_CHAIN"),
                (ca.self_signed(host), "", "TLS_CHAIN"),
                (other_ca().server(host), "", "TLS_CHAIN")):
            have, error, text = verify(tls, 21)
            same((have["verified"], error["code"]), (False, "TLS"), tls.name)
            expect(detail in (None, error["detail"]), tls.name, error)
            expect(have["chain"] and any(c["problem"] for c in have["chain"]),
                   tls.name, "no certificate has a problem:", have["chain"])
            expect(word in (error["text"] + text.out).lower(), tls.name, error["text"])
            expect("NOT TRUSTED" in text.out, text.out)


@check
def verify_server_of_an_alias():
    """The name is the Service FQDN, and never the target of the alias."""
    with Small(mp=False) as s:
        s.names()
        good = s.lab.cloud(s.lab.ca.server(labs.SERVICE))
        run = ask(s, "--verify-server", "https://%s:%d/x" % (labs.SERVICE, good.port))
        expect_readme_chain(run.json)
        same(run.json["tls"]["name_checked"].lower(), SERVICE)
        bad = s.lab.cloud(s.lab.ca.server(labs.ALIAS))
        run = ask(s, "--verify-server", "%s:%d" % (labs.SERVICE, bad.port), status=21)
        same(error_of(run)["detail"], "TLS_NAME")


@check
def verify_server_that_is_not_there():
    with Small(mp=False) as s:
        s.names()
        port = processes.free_port()
        run = ask(s, "--verify-server", "dp01.example.net:%d" % port, status=22)
        same(error_of(run)["step"], "connect")
        expect(not (run.json["tls"] or {}).get("verified"), run.json["tls"])
        ask(s, "--verify-server", "nobody.example.net", status=20)
        part = s.lab.dp_nginx()
        run = ask(s, "--verify-server", "https://dp01.example.net:%d" % part.port,
                  status=21)
        same(error_of(run)["step"], "verify")


@check
def check_chain():
    with Small(mp=False) as s:
        ca, host = s.lab.ca, "dp02.example.net"

        def judge(pair, status, *more, name=host, chain=None):
            return ask(s, "--check-chain", chain or pair.chain, "--name", name,
                       *more, status=status)
        good = ca.server(host)
        run = judge(good, 0, "--ca", ca.root)
        same((run.json["tls"]["verified"], run.json["tls"]["name_checked"]), (True, host))
        judge(good, 0)                                  # [tls] ca_file
        bare("--check-chain", good.chain, "--name", host, "--ca", ca.root, status=0)
        judge(good, 21, "--ca", other_ca().root)
        judge(good, 21, "--ca", ca.root, name="dp01.example.net")
        judge(good, 21, "--ca", ca.root, chain=good.cert)          # no intermediate
        judge(good, 21, "--ca", ca.intermediate)                   # no partial chains
        judge(ca.expired(host), 21, "--ca", ca.root)
        now = int(time.time())
        judge(ca.expired(host), 21, "--ca", ca.root, "--at", str(now))
        judge(ca.expired(host), 21, "--ca", ca.root, "--at", str(now - 25 * 86400))
        judge(good, 21, "--ca", ca.root, "--at", "2099-01-01T00:00:00Z")
        judge(good, 0, "--ca", ca.root, "--at", str(now + 3600))
        judge(good, 0, "--ca", ca.root, "--at",
              time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now + 60)))
        judge(good, 3, chain=s.path("nobody.pem"))
        judge(good, 3, chain=s.lab.conf)
        judge(good, 3, chain=s.lab.folder)
        judge(good, 3, chain="/dev/null")
        judge(good, 3, "--ca", s.lab.conf)
        judge(good, 3, "--crl", s.lab.conf)
        wild = ca.wildcard("*.example.net")
        judge(wild, 0, "--ca", ca.root)
        judge(wild, 21, "--ca", ca.root, name="a.b.example.net")
        with ca.lock:
            revoked = ca.revoked(host)
        judge(revoked, 0, "--ca", ca.root)
        run = judge(revoked, 21, "--ca", ca.root, "--crl", ca.crl)
        same(error_of(run)["detail"], "TLS_REVOKED")
        judge(good, 0, "--ca", ca.root, "--crl", ca.crl)
        same(len(os.listdir(s.path("state"))), 0, "state")


# -- diagnosis ---------------------------------------------------------------------------------------------

def refused(steps):
    """Steps that failed; the token that the lab's management point does not know
    is no matter."""
    return [x for x in steps if not x["ok"] and "tokenauth" not in (x["source"] or "")]


def host(step):
    return step["source"].split(":")[0]


@check
def diagnose_the_whole_way():
    with Site() as s:
        run = ask(s, "--diagnose", PACKAGE)
        steps = run.json["steps"]
        same([x["number"] for x in steps], list(range(1, len(steps) + 1)))
        for x in steps:
            for name in ("number", "step", "source", "ok", "detail", "duration_ms"):
                expect(name in x, name)
        same(refused(steps), [])
        sources = {host(x) for x in steps if x["source"] and x["step"] != "locate"}
        same(sources, {"dp01.example.net", "dp02.example.net", SERVICE})
        have = [x["step"] for x in steps]
        for word in ("policy", "locate", "resolve", "list"):
            expect(word in have, word, "is not among", have)
        expect(run.json["verdict"] and run.json["error"] is None, run.json["verdict"])
        s.expect_nothing()
        expect(not s.partial(), "a partial folder")
        same(find_text(TOKEN, s.path("log"), s.path("state"), s.path("cache")), [])
        served = sum(bytes_served(web.access_log(p)) for p in (s.world.dp1, s.world.dp2))
        expect(served < s.content.total, "it downloaded everything")
        text = s.run("--diagnose", PACKAGE)
        wants(text, 0)
        expect(re.search(r"^ *1 +\w+ +ok", text.out, re.M) and "verdict" in text.out,
               text.out)


@check
def diagnose_ends_as_download_would():
    with Site() as s:
        s.without("dp01", "dp02", "store")
        run = ask(s, "--diagnose", PACKAGE, status=22)
        same({host(x) for x in refused(run.json["steps"])},
             {"dp01.example.net", "dp02.example.net", SERVICE})
        expect(run.json["verdict"], "no verdict")
        s.world.mp.script("on location\nstatus 500\n")
        run = ask(s, "--diagnose", PACKAGE, status=10)
        same([x["step"] for x in refused(run.json["steps"])][-1:], ["locate"])
        s.world.mp.script("")
        s.world.locate()
        ask(s, "--diagnose", PACKAGE, status=11)
        s.lab.policy(PACKAGE, VERSION, s.content, cloud="never")
        s.world.locate(s.world.cloud_url)
        ask(s, "--diagnose", PACKAGE, status=12)
        s.lab.policy(PACKAGE, VERSION, s.content)
        s.conf(cloud__suffix=["elsewhere.net"])
        ask(s, "--diagnose", PACKAGE, status=20)
        s.conf(tls__ca_file=other_ca().root)
        ask(s, "--diagnose", PACKAGE, status=10)
        os.unlink(s.world.policy)
        ask(s, "--diagnose", PACKAGE, status=4)


@check
def diagnose_one_bad_source():
    with Site() as s:
        bad = s.lab.dp_nginx(s.path("dp01"), tls=s.lab.ca.expired(labs.HOSTS[2]))
        s.world.locate("https://dp02.example.net:%d/SMS_DP_SMSPKG$/%s"
                       % (bad.port, PACKAGE), s.world.dp1_url)
        run = ask(s, "--diagnose", PACKAGE)
        same([(x["step"], host(x)) for x in refused(run.json["steps"])],
             [("verify", "dp02.example.net")])
        expect("dp01.example.net" in run.json["verdict"], run.json["verdict"])


# -- the cache --------------------------------------------------------------------------------------------------

def stocked(count=3, size=200000, **settings):
    """A site with `count` contents ABC0010N.1 in the cache, oldest first."""
    s = Small(files={"a": 10})
    try:
        s.part = s.lab.dp_nginx()
        s.conf(**settings)
        s.packages = ["ABC0010%d" % n for n in range(count)]
        for package in s.packages:
            stock(s, package, size)
    except BaseException:
        s.lab.stop()
        raise
    return s


def stock(s, package, size, status=0):
    content = s.lab.content(package, {"x.bin": size, "sub/y": 5})
    s.lab.policy(package, 1, content)
    s.mp.publish(package, replies.location_reply([replies.record(
        "http://127.0.0.1:%d/SMS_DP_SMSPKG$/%s" % (s.part.port, package))]))
    run = s.run("--download", package, "--json")
    return wants(run, status)


def cached(s):
    return sorted(os.listdir(s.path("cache", "content")))


@check
def cache_list():
    with stocked() as s:
        run = ask(s, "--cache", "list")
        have = run.json["contents"]
        same(sorted((c["content"], c["version"]) for c in have),
             [(p, 1) for p in s.packages])
        for c in have:
            same((c["files"], c["bytes"], c["partial"], c["in_use"]),
                 (2, 200005, False, False))
            expect(c["hash"].startswith("sha256:"), c)
            expect(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$", c["last_used"]), c)
        text = s.run("--cache", "list")
        wants(text, 0)
        expect(all(p in text.out for p in s.packages), text.out)


@check
def cache_verify():
    with stocked() as s:
        run = ask(s, "--cache", "verify")
        expect(all(c["verified"] and not c["problem"] for c in run.json["contents"]),
               run.json)
        victim = s.path("cache", "content", s.packages[1] + ".1", "x.bin")
        os.chmod(victim, 0o644)
        contents.tamper(victim)
        run = ask(s, "--cache", "verify", status=23)
        bad = [c for c in run.json["contents"] if c["problem"]]
        same([c["content"] for c in bad], [s.packages[1]])
        expect(s.packages[1] in run.err, run.err)
        text = s.run("--cache", "verify")
        same(text.status, 23)
        os.unlink(s.path("policy.d", s.packages[1] + ".ini"))
        ask(s, "--cache", "verify", status=23)


@check
def cache_remove():
    with stocked() as s:
        run = ask(s, "--cache", "remove", s.packages[0])
        same(run.json["removed"], 1)
        same(cached(s), [p + ".1" for p in s.packages[1:]])
        ask(s, "--cache", "remove", s.packages[1] + ".1")
        same(cached(s), [s.packages[2] + ".1"])
        expect(s.run("--cache", "remove", "ABC99999").status != 0, "removed nothing")
        expect(s.run("--cache", "remove", "../../x").status == 2, "a path")


@check
def cache_trim():
    with stocked(3) as s:
        run = ask(s, "--cache", "trim")
        same(run.json["removed"], 0)
        run = ask(s, "--cache", "trim", "--set", "cache.size=450k")
        same(run.json["removed"], 1)
        same(cached(s), [p + ".1" for p in s.packages[1:]])


@check
def quota_evicts_the_least_recently_used():
    with stocked(3, cache__size="700k") as s:
        # ABC00100 is used again (answered from the cache), so ABC00101 is the oldest.
        for number, package in enumerate(s.packages):
            when = 1700000000 + number * 1000
            for name in ("content", "listing", "lock"):
                for entry in os.listdir(s.path("cache", name)):
                    if entry.startswith(package):
                        os.utime(s.path("cache", name, entry), (when, when))
        run = s.run("--download", s.packages[0], "--json")
        same(run.json["result"], "cached")
        stock(s, "ABC00200", 200000)
        same(cached(s), ["ABC00100.1", "ABC00102.1", "ABC00200.1"])


@check
def quota_that_is_too_small():
    with stocked(1, cache__size="300k") as s:
        run = stock(s, "ABC00200", 400000, status=30)
        same(error_of(run)["code"], "SPACE")
        same(cached(s), ["ABC00100.1"])
        same(bytes_served([r for r in web.access_log(s.part) if "ABC00200" in r["uri"]]),
             0, "bytes were fetched")


@check
def quota_never_evicts_what_is_in_use():
    with stocked(0, cache__size="5M") as s:
        slow = s.lab.dp_nginx(rate="500k")
        content = s.lab.content(PACKAGE, {"x": 4 << 20})
        s.lab.policy(PACKAGE, 3, content)
        s.mp.publish(PACKAGE, replies.location_reply([replies.record(
            "http://127.0.0.1:%d/SMS_DP_SMSPKG$/%s" % (slow.port, PACKAGE))]))
        with Running(s) as agent:
            agent.until_bytes(1 << 20)
            run = stock(s, "ABC00200", 9 << 19, status=30)
            same(error_of(run)["code"], "SPACE")
            agent.signal(signal.SIGINT)
            agent.finish()
        expect(s.partial(), "the partial content is gone")


@check
def no_space_on_the_disk():
    with stocked(0) as s:
        run = None
        s.conf(cache__min_free="900000G")
        content = s.lab.content("ABC00200", {"x.bin": 1000})
        s.lab.policy("ABC00200", 1, content)
        s.mp.publish("ABC00200", replies.location_reply([replies.record(
            "http://127.0.0.1:%d/SMS_DP_SMSPKG$/ABC00200" % s.part.port)]))
        run = s.run("--download", "ABC00200", "--json")
        wants(run, 30)
        expect("min_free" in run.err, run.err)
        same(gets(web.access_log(s.part)), [], "bytes were fetched")


@check
def folders_that_cannot_be_used():
    with Site() as s:
        with open(s.path("file"), "w") as out:
            out.write("x")
        for key in ("state.directory", "cache.directory"):
            for path in (s.path("file"), s.path("file", "below"), "/proc/nowhere"):
                run = s.download("--set", "%s=%s" % (key, path), status=31)
                same(error_of(run)["code"], "STATE")
                expect(path in run.err, run.err)
        shutil.rmtree(s.path("cache"))
        os.makedirs(s.path("cache"))
        os.chmod(s.path("cache"), 0o777)
        run = s.run("--download", PACKAGE, "--json")
        expect(run.status in (0, 31), run.status, run.err)


@check
def a_log_folder_that_cannot_be_used_is_a_warning():
    with Site() as s:
        with open(s.path("file"), "w") as out:
            out.write("x")
        run = s.download("--set", "log.directory=" + s.path("file"))
        expect("log" in run.err, run.err)


@check
def state_that_is_damaged():
    """Losing it costs time, never content."""
    with Site() as s:
        s.download()
        s.forget()
        for data in (b"", b"garbage" * 1000, os.urandom(8192)):
            for name in os.listdir(s.path("state")):
                with open(s.path("state", name), "wb") as out:
                    out.write(data)
            run = s.run("--download", PACKAGE, "--json")
            expect(run.status in (0, 31), run.status, run.err)
            if run.status == 31:
                expect("state" in run.err, run.err)
                shutil.rmtree(s.path("state"))
                s.download()
            s.forget()


# -- output -------------------------------------------------------------------------------------------------------

LINE = re.compile(
    r'^<!\[LOG\[(?P<text>[^\r\n]*)\]LOG\]!><time="\d\d:\d\d:\d\d\.\d\d\d[+-]\d\d\d" '
    r'date="\d\d-\d\d-\d\d\d\d" component="[A-Za-z]+" context="" type="[0-3]" '
    r'thread="\d+" file="[a-z_]*\.?[a-z]*:?\d*">$')


@check
def log_lines():
    with Site() as s:
        s.without("dp01", "dp02")
        s.download()
        s.download(status=0)
        names = os.listdir(s.path("log"))
        expect({"ContentTransferManager.log", "LocationServices.log",
                "DataTransferService.log", "CAS.log"} <= set(names), names)
        for name in names:
            with open(s.path("log", name), "rb") as stream:
                data = stream.read()
            expect(data.endswith(b"\r\n"), name, "does not end in CRLF")
            for line in data.decode("utf-8").split("\r\n")[:-1]:
                expect(LINE.match(line), name, repr(line))
                expect("\n" not in line, "a line feed")


@check
def no_escape_sequences_without_a_terminal():
    with Site() as s:
        for words in (["--download", PACKAGE], ["--locate", PACKAGE],
                      ["--resolve", labs.SERVICE], ["--diagnose", PACKAGE],
                      ["--check-config"], ["--cache", "list"], ["--bogus"], ["--help"],
                      ["--download", PACKAGE + ".9"]):
            run = s.run(*words, env={"TERM": "xterm-256color", "CLICOLOR_FORCE": "1"})
            expect("\x1b" not in run.out + run.err, words)


@check
def no_color_on_a_terminal():
    with Site() as s:
        for value, coloured in ((None, True), ("1", False), ("", True)):
            text, status = harness.on_terminal(s.lab, ["--locate", PACKAGE], value)
            same(status, 0)
            same(b"\x1b[" in text, coloured, "NO_COLOR=%r" % value)


@check
def secrets_are_nowhere():
    with Site(storage="nginx") as s:
        client = s.lab.ca.client("client01")
        os.chmod(client.key, 0o600)
        with open(client.key) as stream:
            key = stream.read().split("\n")[1][:40]
        secrets = (TOKEN, "lab%2Bsig", "lab+sig", "pw-canary", key, "sig-canary")
        s.conf(client__certificate=client.chain, client__key=client.key)
        outputs = []

        def run(*words, env=None):
            for more in ((), ("--json",)):
                done = s.run(*words, "--verbose", *more, env=env)
                outputs.append(done.out + done.err)
        s.without("dp01", "dp02")
        run("--download", PACKAGE)
        s.forget()
        s.without("store")                    # 404 with the signed URL in the error
        run("--download", PACKAGE)
        run("--diagnose", PACKAGE)
        s.world.locate(replies.record(s.world.cloud_url + "&sig=sig-canary",
                                      AccessToken=TOKEN))
        run("--locate", PACKAGE)
        run("--download", PACKAGE)
        run("--check-config", env={"http_proxy": "http://u:pw-canary@127.0.0.1:1"})
        run("--resolve", "https://u:pw-canary@dp01.example.net/?sig=sig-canary")
        run("--verify-server", "https://dp02.example.net:%d/?sig=sig-canary"
            % s.world.dp2.port)
        run("--cache", "list")
        with open(s.path("reply.xml"), "w") as out:
            out.write(replies.location_reply([replies.record(
                s.world.cloud_url + "&sig=sig-canary", AccessToken=TOKEN)]))
        run("--replay", s.path("reply.xml"))
        for secret in secrets:
            for text in outputs:
                expect(secret not in text, secret, "is in", text[:3000])
            same(find_text(secret, s.path("log"), s.path("state"), s.path("cache")), [],
                 secret)


@check
def secrets_that_others_may_read():
    """A key or token file that everybody can read: refused or warned about."""
    if os.geteuid() != 0:
        skip("for root")
    with Site() as s:
        os.chmod(s.path("token"), 0o644)
        run = s.run("--locate", PACKAGE, "--json")
        expect(run.status != 0 or "token" in run.err, run.status, run.err)


@check
def hostile_text_on_the_terminal():
    """Control characters from the network stand escaped."""
    with Site() as s:
        evil = "\u202e\u009b31m"
        s.world.locate(replies.record(s.world.dp1_url, locality="SUB" + evil,
                                      server="dp" + evil + ".example.net"))
        run = s.run("--locate", PACKAGE)
        expect("\u009b" not in run.out + run.err, "a C1 control character")
        run = s.run("--locate", PACKAGE, "--json")
        expect(run.json is not None, "no JSON")


@check
def verbose_and_quiet():
    with Site() as s:
        loud = s.run("--locate", PACKAGE, "--verbose")
        wants(loud, 0)
        expect(len(loud.err.splitlines()) > 3, loud.err)
        quiet = s.run("--locate", PACKAGE, "--quiet")
        wants(quiet, 0)
        expect("dp01" in quiet.out, quiet.out)
        s.world.mp.script("on location\nstatus 500\n")
        quiet = s.run("--download", PACKAGE, "--quiet")
        wants(quiet, 10)
        expect(quiet.err, "no error with --quiet")


@check
def interruption_of_any_verb():
    with Small(mp=False) as s:
        stuck = s.lab.fault(None, "tls-stall", tls=s.lab.ca.server(labs.HOSTS[0]))
        s.names()
        for words in (["--verify-server", "mp01.example.net:%d" % stuck.port],
                      ["--locate", PACKAGE, "--set", "site.management_point="
                       "https://mp01.example.net:%d" % stuck.port],
                      ["--diagnose", PACKAGE, "--set", "site.management_point="
                       "https://mp01.example.net:%d" % stuck.port]):
            s.policy()
            for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
                before = stuck.server.connections
                process = s.run(*words, "--json", popen=True)
                processes.wait_until(lambda: stuck.server.connections > before,
                                     "a connection", process)
                began = time.monotonic()
                process.send_signal(number)
                out, err = process.communicate(timeout=30)
                took = time.monotonic() - began
                same(process.returncode, status, "%s: %s" % (words, err))
                expect(took < 1, "%s took %.2f s" % (words, took))
                same(json.loads(out)["error"]["exit"], status, words)


if __name__ == "__main__":
    sys.exit(main())
