#!/usr/bin/env python3
"""Management points: every way to ask one, every way it can answer, --locate, --replay."""

import os
import sys
import zlib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from harness import *                                               # noqa: E402,F403

SAMPLES = os.path.join(TOP, "tests", "lab", "samples")
DP = "http://dp01.example.net/SMS_DP_SMSPKG$/" + PACKAGE
CLOUD = replies.cloud_url(labs.SERVICE, 443, PACKAGE)


def locate(s, *args, status=0, **how):
    run = s.run("--locate", PACKAGE, "--json", *args, **how)
    wants(run, status)
    expect(run.json is not None, "no JSON on stdout:", run.out[:300])
    return run


def requests(mp):
    return [r for r in mp.requests() if "package_id" in r]


def expect_proper(*mps):
    for mp in mps:
        for r in mp.requests():
            same(r["violations"], [], "violations at " + r["path"])


def both(lab):
    path = lab.path("both.pem")
    with open(path, "w") as out:
        for name in (lab.ca.root, lab.ca.intermediate):
            with open(name) as stream:
                out.write(stream.read())
    return path


def private(path, text):
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        out.write(text + "\n")
    return path


# -- ways to ask ---------------------------------------------------------------------------

@check
def compressed_form():
    with Small() as s:
        s.locate(DP, CLOUD)
        run = locate(s)
        asked = requests(s.mp)
        same(len(asked), 1, "requests")
        same((asked[0]["compressed"], asked[0]["method"]), (True, "CCM_POST"))
        same((asked[0]["package_id"], asked[0]["site"]), (PACKAGE, "ABC"))
        same((asked[0]["use_azure"], asked[0]["dp_token_auth"]), ("1", "0"))
        same([x["kind"] for x in run.json["locations"]], ["on-prem", "cloud"])
        expect_proper(s.mp)


@check
def plain_form():
    with Small() as s:
        s.locate(DP)
        locate(s, "--set", "site.compression=no")
        same(requests(s.mp)[0]["compressed"], False)
        expect_proper(s.mp)


@check
def reply_in_both_forms():
    with Small() as s:
        s.locate(DP)
        for words in ("plain", "zlib", "bom", "nonul", "plain\nbom", "plain\nnonul"):
            s.mp.script("on location\n%s\n" % words)
            run = locate(s)
            same(len(run.json["locations"]), 1, words)


@check
def facts_of_the_site():
    with Small() as s:
        s.locate(DP)
        s.conf(site__code="XYZ", site__forest="example.net", site__domain="d.example",
               site__ad_site="Ham<burg & Söhne")
        locate(s)
        asked = requests(s.mp)[0]
        same(asked["site"], "XYZ")
        info = next(c for c in asked["request"]["children"]
                    if c["name"] == "ClientLocationInfo")
        have = {c["name"]: c["attributes"].get("Name") for c in info["children"]}
        same((have["Forest"], have["Domain"], have["ADSite"]),
             ("example.net", "d.example", "Ham<burg & Söhne"))
        expect_proper(s.mp)


@check
def client_id_is_made_once_and_kept():
    with Small() as s:
        s.locate(DP)
        s.conf(client__id=None)
        locate(s)
        locate(s)
        ids = [r["msg"]["SourceID"] for r in requests(s.mp)]
        same(len(set(ids)), 1, "ids")
        expect(ids[0].startswith("GUID:") and len(ids[0]) == 41, ids[0])


@check
def https_by_name():
    with Small(mp=False) as s:
        mp = s.lab.mp(tls=s.lab.ca.server(labs.HOSTS[0]))
        s.names()
        s.conf(["https://%s:%d" % (labs.HOSTS[0], mp.port)])
        mp.publish(PACKAGE, replies.location_reply([replies.record(DP)]))
        locate(s)
        same(requests(mp)[0]["sni"], labs.HOSTS[0])
        expect_proper(mp)


@check
def mutual_tls():
    with Small(mp=False) as s:
        client = s.lab.ca.client("client01")
        os.chmod(client.key, 0o600)
        mp = s.lab.mp(tls=s.lab.ca.server(labs.HOSTS[0]), client_ca=both(s.lab))
        s.names()
        urls = ["https://%s:%d" % (labs.HOSTS[0], mp.port)]
        mp.publish(PACKAGE, replies.location_reply([replies.record(DP)]))
        s.conf(urls)
        run = locate(s, status=10)
        expect("Client certificate required" in error_of(run)["text"], error_of(run))
        s.conf(urls, client__certificate=client.chain, client__key=client.key)
        locate(s)
        expect("client01" in (requests(mp)[-1]["client_certificate"] or ""),
               requests(mp)[-1])
        expect_proper(mp)


@check
def token_header():
    with Small(mp=False) as s:
        for prefix in (None, "X-CCM-Token: Bearer", "CCMClientToken:"):
            more = ["--token-header", prefix] if prefix else []
            mp = s.lab.mp(tls=s.lab.ca.server(labs.HOSTS[0]), token=TOKEN, more=more)
            s.names()
            mp.publish(PACKAGE, replies.location_reply([replies.record(DP)]))
            s.conf(["https://%s:%d" % (labs.HOSTS[0], mp.port)],
                   client__token_file=private(s.path("token"), TOKEN),
                   client__token_header=prefix)
            locate(s)
            asked = requests(mp)
            same(len(asked), 1, "requests")
            same(asked[0]["path"].lower(), "/ccm_system_tokenauth/request")
            same((asked[0]["token_good"], asked[0]["dp_token_auth"]), (True, "1"))
            expect_proper(mp)


@check
def token_never_over_http():
    with Small() as s:
        s.locate(DP)
        s.conf(client__token_file=private(s.path("token"), TOKEN))
        locate(s)
        for r in s.mp.requests():
            same(r["token"], False, "a token over http at " + r["path"])
        with open(os.path.join(s.mp.folder, "mp.log")) as log:
            expect(TOKEN not in log.read(), "the token is in the log")


@check
def gateway_with_token():
    """The site hands out MutualAuth; with a token it is ServerAuth."""
    with Small(mp=False) as s:
        mp = s.lab.mp(tls=s.lab.ca.server(labs.HOSTS[0]), token=TOKEN)
        s.names()
        mp.publish(PACKAGE, replies.location_reply([replies.record(DP)]))
        for base in ("CCM_Proxy_MutualAuth", "CCM_Proxy_ServerAuth",
                     "ccm_proxy_mutualauth"):
            s.conf(["https://%s:%d/%s/72057594037927941" % (
                labs.HOSTS[0], mp.port, base)],
                client__token_file=private(s.path("token"), TOKEN))
            locate(s)
            last = requests(mp)[-1]
            same(last["path"].lower(), "/ccm_proxy_serverauth/72057594037927941/"
                 "ccm_system_tokenauth/request")
            same((last.get("way"), last["use_internet_dp"]), ("server", "1"))
        expect_proper(mp)


@check
def gateway_with_certificate():
    with Small(mp=False) as s:
        client = s.lab.ca.client("client01")
        os.chmod(client.key, 0o600)
        mp = s.lab.mp(tls=s.lab.ca.server(labs.HOSTS[0]), client_ca=both(s.lab))
        s.names()
        mp.publish(PACKAGE, replies.location_reply([replies.record(DP)]))
        s.conf(["https://%s:%d/CCM_Proxy_MutualAuth/72057594037927941" % (
            labs.HOSTS[0], mp.port)],
            client__certificate=client.chain, client__key=client.key)
        locate(s)
        last = requests(mp)[-1]
        same(last["path"], "/CCM_Proxy_MutualAuth/72057594037927941/ccm_system/request")
        same(last["use_internet_dp"], "1")
        expect_proper(mp)


@check
def certificate_goes_only_to_configured_management_points():
    """One that MPLIST named gets to see no client certificate."""
    with Small(mp=False) as s:
        client = s.lab.ca.client("client01")
        os.chmod(client.key, 0o600)
        first = s.lab.mp(tls=s.lab.ca.server(labs.HOSTS[0]))
        first.script("on location\nstatus 500\n")
        first.mplist(replies.mp_list([("dp02.example.net", True)]))
        s.names()
        s.conf(["https://%s:%d" % (labs.HOSTS[0], first.port)],
               client__certificate=client.chain, client__key=client.key)
        locate(s, status=10)


@check
def token_refused_then_certificate():
    with Small(mp=False) as s:
        client = s.lab.ca.client("client01")
        os.chmod(client.key, 0o600)
        mp = s.lab.mp(tls=s.lab.ca.server(labs.HOSTS[0]), client_ca=both(s.lab),
                      token="another")
        s.names()
        mp.publish(PACKAGE, replies.location_reply([replies.record(DP)]))
        s.conf(["https://%s:%d" % (labs.HOSTS[0], mp.port)],
               client__certificate=client.chain, client__key=client.key,
               client__token_file=private(s.path("token"), TOKEN))
        locate(s)
        same(requests(mp)[-1]["path"].lower(), "/ccm_system/request")


# -- several management points ------------------------------------------------------------------

@check
def in_the_order_of_the_settings():
    with Small() as s:
        other = s.lab.mp()
        other.publish(PACKAGE, replies.location_reply(
            [replies.record("http://second.example.net/SMS_DP_SMSPKG$/" + PACKAGE)]))
        s.locate(DP)
        urls = ["http://127.0.0.1:%d" % p.port for p in (s.mp, other)]
        s.conf(urls)
        same(locate(s).json["locations"][0]["host"], "dp01.example.net")
        same(len(other.requests()), 0, "requests to the second")
        s.mp.script("on location\nstatus 500\nreason Gone wrong\n")
        run = locate(s)
        same(run.json["locations"][0]["host"], "second.example.net")
        expect("Gone wrong" in run.err and urls[0] in run.err, run.err)
        expect_proper(s.mp, other)


@check
def every_failure_is_listed():
    with Small() as s:
        other = s.lab.mp()
        other.script("status 403\nreason CMGConnector_Forbidden\n")
        s.mp.script("html\n")
        free = processes.free_port()
        urls = ["http://127.0.0.1:%d" % n for n in (s.mp.port, free, other.port)]
        s.conf(urls)
        run = locate(s, status=10)
        for url in urls:
            expect(url in run.err, "not named:", url, run.err)
        expect("CMGConnector_Forbidden" in error_of(run)["text"], error_of(run))
        same(run.json["locations"], [])


@check
def an_empty_list_is_an_answer():
    """The first one that answers is believed: no shopping around."""
    with Small() as s:
        other = s.lab.mp()
        s.locate()
        s.conf(["http://127.0.0.1:%d" % p.port for p in (s.mp, other)])
        locate(s, status=11)
        same(len(other.requests()), 0, "requests to the second")


@check
def mplist_learns_more():
    with Small(mp=False) as s:
        tls = s.lab.ca.server(labs.HOSTS[0])
        port = processes.free_port(("127.0.0.2", "127.0.0.3"))
        first = s.lab.mp(address="127.0.0.2", more=["--port", str(port)])
        second = s.lab.mp(address="127.0.0.3", more=["--port", str(port)])
        s.names(("mp01.example.net", "A", "127.0.0.2"),
                ("mp02.example.net", "A", "127.0.0.3"))
        first.script("mplist_only\n")
        second.publish(PACKAGE, replies.location_reply([replies.record(DP)]))
        text = replies.mp_list([("mp01.example.net", False), ("mp02.example.net", False)])
        first.mplist(text.replace("mp02.example.net", "mp02.example.net:%d" % port))
        s.conf(["http://mp01.example.net:%d" % port])
        run = s.run("--locate", PACKAGE, "--json")
        expect(any(r["path"].lower() == "/sms_mp/.sms_aut" for r in first.requests()),
               "MPLIST was not asked for")
        expect(tls and run.status in (0, 10), run.status)
        expect_proper(first, second)


@check
def mplist_on_the_usual_port():
    """Names of a list mean the usual port; where root may have it, it is used."""
    if os.geteuid() != 0:
        skip("port 80 is for root")
    with Small() as s:
        try:
            second = s.lab.mp(address="127.0.0.9", more=["--port", "80"])
        except processes.LabError as error:
            skip("port 80 of 127.0.0.9: %s" % str(error)[:80])
        s.names(("mp02.example.net", "A", "127.0.0.9"))
        s.mp.script("mplist_only\n")
        s.mp.mplist(replies.mp_list([("mp02.example.net", False)]))
        second.publish(PACKAGE, replies.location_reply([replies.record(DP)]))
        run = locate(s)
        same(len(run.json["locations"]), 1)
        same(len(requests(second)), 1, "requests to the learnt one")
        expect("mp02.example.net" in run.json["management_point"], run.json)
        expect_proper(s.mp, second)


@check
def mplist_never_makes_http_of_https():
    if os.geteuid() != 0:
        skip("port 80 is for root")
    with Small(mp=False) as s:
        first = s.lab.mp(tls=s.lab.ca.server(labs.HOSTS[0]))
        try:
            second = s.lab.mp(address="127.0.0.10", more=["--port", "80"])
        except processes.LabError as error:
            skip("port 80 of 127.0.0.10: %s" % str(error)[:80])
        s.names(("mp01.example.net", "A", "127.0.0.1"),
                ("mp02.example.net", "A", "127.0.0.10"))
        first.script("mplist_only\n")
        first.mplist(replies.mp_list([("mp02.example.net", False)]))
        second.publish(PACKAGE, replies.location_reply([replies.record(DP)]))
        s.conf(["https://mp01.example.net:%d" % first.port])
        locate(s, status=10)
        same(len(second.requests()), 0, "requests over http")


# -- what goes wrong -------------------------------------------------------------------------------

ERRORS = (
    (403, "Client certificate required"), (403, "Forbidden"),
    (403, "CMGConnector_Clientcertificaterequired"), (403, "CMGConnector_Forbidden"),
    (401, "CMGService_Invalid_Token"), (500, "Internal Server Error"),
    (503, "Service Unavailable"), (404, "Not Found"), (405, "Method Not Allowed"),
    (400, "Bad Request"), (302, "Found"),
)


@check
def error_replies():
    with Small() as s:
        for status, reason in ERRORS:
            s.mp.script("status %d\nreason %s\n" % (status, reason))
            run = locate(s, status=10)
            text = error_of(run)["text"]
            same((error_of(run)["code"], error_of(run)["step"]), ("MP", "locate"))
            expect(str(status) in text and reason in text, status, reason, text)
            same(run.json["locations"], [])
        s.mp.script("status 500\nreason \x1b[31mred\n")
        run = locate(s, status=10)
        expect("\x1b" not in run.out + run.err, "an escape sequence")


@check
def redirects_are_not_followed_for_a_message():
    with Small() as s:
        other = s.lab.mp()
        other.publish(PACKAGE, replies.location_reply([replies.record(DP)]))
        s.mp.script("redirect http://127.0.0.1:%d/ccm_system/request\n" % other.port)
        locate(s, status=10)
        same(len(other.requests()), 0, "requests")


def bomb():
    packer = zlib.compressobj(9)
    text = packer.compress("<A>".encode("utf-16-le"))
    block = (" " * 500000).encode("utf-16-le")
    for _ in range(300):
        text += packer.compress(block)
    return text + packer.flush()


@check
def odd_replies():
    """All of them 10, in bounded time and memory."""
    with Small() as s:
        s.locate(DP)
        write = lambda name, data: open(s.path(name), "wb").write(data) and s.path(name)
        reply = replies.location_reply([replies.record(DP)])
        utf16 = (reply + "\0").encode("utf-16-le")
        deep = "<a>" * 5000 + "</a>" * 5000
        dtd = ("<!DOCTYPE a [<!ENTITY b \"cccc\">]>" + reply.replace(
            "ABC", "&b;"))
        scripts = {
            "empty": "empty\n", "html": "html\n", "close": "close\n",
            "cut 100": "cut 100\n", "cut 700": "cut 700\n",
            "garbage": "raw %s\n" % write("garbage", os.urandom(100000)),
            "one byte": "raw %s\n" % write("one", b"-"),
            "no boundary": "content_type multipart/mixed\n",
            "wrong boundary": "content_type multipart/mixed; boundary=xyz\n",
            "no content type": "content_type -\n",
            "text": "content_type text/plain\n",
            "not zlib": "rawpart2 %s\n" % write("notzlib", b"x" * 5000),
            "half of zlib": "rawpart2 %s\n" % write("half", zlib.compress(utf16)[:-30]),
            "a bomb": "rawpart2 %s\n" % write("bomb", bomb()),
            "odd length": "rawpart2 %s\n" % write("odd", zlib.compress(utf16[:-1])),
            "UTF-8": "bodyraw %s\n" % write("utf8", reply.encode()),
            "lone surrogate": "bodyraw %s\n" % write(
                "lone", utf16[:200] + b"\x00\xd8" + utf16[200:]),
            "another document": "body %s\n" % write("other", b"<Other/>"),
            "half a document": "body %s\n" % write("cut", reply[:300].encode()),
            "two documents": "body %s\n" % write("two", (reply + reply).encode()),
            "DTD": "body %s\n" % write("dtd", dtd.encode()),
            "depth": "body %s\n" % write("deep", deep.encode()),
            "NUL inside": "bodyraw %s\n" % write(
                "nul", utf16[:300] + b"\0\0" + utf16[300:]),
            "no text": "bodyraw %s\n" % write("notext", b"\0\0"),
        }
        for name, script in scripts.items():
            s.mp.script("on location\n" + script)
            began = time.monotonic()
            run, kib = peak_kib("--locate", PACKAGE, "--json", "--config", s.lab.conf)
            took = time.monotonic() - began
            expect(run.status == 10 or (name in ("text", "no content type", "UTF-8")
                                        and run.status == 0),
                   name, "ended with", run.status, run.err[-400:], run.out[-300:])
            expect(took < 12, "%s took %.1f s" % (name, took))
            expect(kib < 64 << 10 or is_sanitized(), "%s took %d KiB" % (name, kib))
            expect(run.json and (run.status == 0 or run.json["error"]["text"]), name)


@check
def a_silent_management_point():
    with Small() as s:
        s.mp.script("on location\ndelay_ms 8000\n")
        with Running(s, json_out=False) as agent:     # just that it can be ended
            s.policy()
            agent.finish()
        other = s.lab.fault(None, "connect-stall", tls=s.lab.ca.server(labs.HOSTS[0]))
        s.conf(["https://127.0.0.1:%d" % other.port], transfer__connect_timeout="1s")
        began = time.monotonic()
        locate(s, status=10)
        expect(time.monotonic() - began < 10, "it took too long")


@check
def a_bad_certificate():
    with Small(mp=False) as s:
        mp = s.lab.mp(tls=other_ca().server(labs.HOSTS[0]))
        s.names()
        s.conf(["https://%s:%d" % (labs.HOSTS[0], mp.port)],
               client__token_file=private(s.path("token"), TOKEN))
        run = locate(s, status=10)
        expect("certificate" in error_of(run)["text"].lower()
               or "chain" in error_of(run)["text"].lower(), error_of(run))
        same(len(mp.requests()), 0, "requests")


@check
def a_name_that_does_not_exist():
    with Small(mp=False) as s:
        s.names()
        s.conf(["https://nobody.example.net"])
        run = locate(s, status=10)
        expect("nobody.example.net" in error_of(run)["text"], error_of(run))


@check
def no_management_point_is_configured():
    with Small(mp=False) as s:
        run = s.run("--locate", PACKAGE, "--json")
        expect(run.status in (3, 10), run.status)
        expect("management_point" in run.err, run.err)


# -- state ------------------------------------------------------------------------------------------------

@check
def boundary_groups_are_sent_back():
    with Small() as s:
        groups = [(5, "6D1C2B3A-0000-4000-8000-00000000AAAA"),
                  (16777217, "6D1C2B3A-0000-4000-8000-00000000BBBB")]
        s.locate(DP, groups=groups)
        locate(s)
        locate(s)
        first, second = requests(s.mp)
        same(first["boundary_groups"], [], "the first time")
        expect(len(second["boundary_groups"]) == 2, second["boundary_groups"])
        same(second["boundary_groups_time"], "2026-01-15T10:19:02.120")
        expect("00000000BBBB" in json.dumps(second["boundary_groups"]), second)
        expect_proper(s.mp)


@check
def client_in_operation_grows():
    """The age of the search, which ends with the download."""
    import sqlite3
    with Small(files={"a": 10}) as s:
        part = s.lab.dp_nginx()
        s.locate(s.share(part))
        locate(s)
        db = sqlite3.connect(s.path("state", "state.db"))
        tables = [r[0] for r in db.execute("select name from sqlite_master where "
                                           "type = 'table'")]
        changed = 0
        for table in tables:
            columns = [r[1] for r in db.execute("pragma table_info(%s)" % table)]
            for column in columns:
                if "since" in column or "began" in column:
                    changed += db.execute("update %s set %s = %s - 720"
                                          % (table, column, column)).rowcount
        db.commit()
        db.close()
        expect(changed, "no search is remembered in", tables)
        locate(s)
        same([r["client_in_operation"] for r in requests(s.mp)], ["PT0M", "PT12M"])
        s.policy()
        s.download()
        locate(s)
        same(requests(s.mp)[-1]["client_in_operation"], "PT0M", "after the download")
        expect_proper(s.mp)


# -- --locate ------------------------------------------------------------------------------------------------

FIELDS = ("rank", "kind", "host", "url", "locality", "usable", "reason")


@check
def locate_prints_every_source_and_why():
    with Small() as s:
        with open(os.path.join(SAMPLES, "package-everything.xml"),
                  encoding="utf-8") as stream:
            s.mp.publish(PACKAGE, stream.read())
        run = locate(s)
        places = run.json["locations"]
        same((run.json["content"], run.json["cloud_allowed"], run.json["error"]),
             (PACKAGE, True, None))
        for name in FIELDS:
            expect(all(name in x for x in places), name, "is missing")
        same([x["rank"] for x in places], list(range(1, len(places) + 1)))
        usable = [x["usable"] for x in places]
        same(usable, sorted(usable, reverse=True), "usable ones first")
        expect(all(x["reason"] for x in places), "a source without a reason")
        urls = [x["url"] for x in places]
        same(len(urls), len(set(urls)), "a repeated URL counts once")
        kinds = {x["kind"] for x in places}
        expect(kinds >= {"on-prem", "cloud", "peer"}, kinds)
        expect(kinds <= {"on-prem", "cloud", "peer", "internet", "microsoft-update",
                         "unknown"}, kinds)
        expect(not any(x["usable"] for x in places if x["kind"] in
                       ("peer", "microsoft-update")), "a peer may be used")
        expect("sample.token" not in run.out + run.err, "a token in the output")
        text = s.run("--locate", PACKAGE)
        wants(text, 0)
        for x in places:
            expect(x["host"] in text.out and x["reason"] in text.out, x["host"],
                   x["reason"])


@check
def order_of_localities():
    with Small() as s:
        words = ["SITE", "NEWWORD", "BOUNDARYGROUP", "LOCAL", "SUBNET"]
        s.locate(CLOUD, *[replies.record(
            "http://%s.example.net/SMS_DP_SMSPKG$/%s" % (w.lower(), PACKAGE),
            locality=w) for w in words])
        have = [x["host"].split(".")[0] for x in locate(s).json["locations"]]
        same(have, ["local", "subnet", "boundarygroup", "site", "newword",
                    "wallacefalls"])


@check
def order_of_the_reply_within_a_rank():
    with Small() as s:
        s.locate(*["http://dp%d.example.net/SMS_DP_SMSPKG$/%s" % (n, PACKAGE)
                   for n in (5, 2, 9, 1)])
        same([x["host"] for x in locate(s).json["locations"]],
             ["dp%d.example.net" % n for n in (5, 2, 9, 1)])


@check
def several_sites_are_joined():
    with Small() as s:
        one = replies.record(DP, "https://dp01.example.net/SMS_DP_SMSPKG$/" + PACKAGE)
        two = replies.record("http://dp07.example.net/SMS_DP_SMSPKG$/" + PACKAGE)
        s.mp.publish(PACKAGE, replies.location_reply(sites=[
            replies.site([one]), replies.site([], locality="FALLBACK"),
            replies.site([two, replies.record(DP)], code="DEF", locality="FALLBACK")]))
        same([x["url"] for x in locate(s).json["locations"]],
             [DP, DP.replace("http:", "https:"),
              "http://dp07.example.net/SMS_DP_SMSPKG$/" + PACKAGE])


@check
def locate_ends_with_11_or_12():
    with Small() as s:
        s.locate()
        run = locate(s, status=11)
        same(run.json["locations"], [])
        s.locate(CLOUD)
        locate(s)
        s.policy(cloud="never")
        run = locate(s, status=12)
        same((run.json["locations"][0]["usable"], run.json["cloud_allowed"]),
             (False, False))
        expect("never" in run.json["locations"][0]["reason"], run.json["locations"])
        s.locate(replies.record("https://peer.example.net:8003/SCCM_BranchCache$/"
                                + PACKAGE, locality="SUBNETPEER"))
        locate(s, status=11)


@check
def locate_with_from():
    with Small() as s:
        s.locate(DP, CLOUD)
        run = locate(s, "--from", "cloud")
        same([(x["kind"], x["usable"]) for x in run.json["locations"]],
             [("cloud", True), ("on-prem", False)])


@check
def unknown_and_odd_urls():
    with Small() as s:
        odd = ["ftp://dp01.example.net/SMS_DP_SMSPKG$/" + PACKAGE, "nonsense", "",
               "http:///x", "https://user:pw@dp01.example.net/SMS_DP_SMSPKG$/x",
               "http://dp01.example.net/SMS_DP_SMSPKG$/\u001b[2J".replace("\u001b", "%1b"),
               "file:///etc/passwd", "http://dp01.example.net:99999/SMS_DP_SMSPKG$/x",
               "\\\\dp01\\share"]
        s.locate(*[replies.record(u, server="dp01.example.net") for u in odd], DP)
        run = locate(s)
        good = [x["url"] for x in run.json["locations"] if x["usable"]]
        expect(DP in good, good)
        expect(not any(u.startswith(("ftp", "file", "nonsense")) or "user" in u
                       for u in good), good)
        expect("\x1b" not in run.out, "an escape")
        expect(":pw@" not in run.out + run.err, "a password is shown")


@check
def hashes_of_the_site_are_told_and_not_believed():
    with Site() as s:
        # Equal or not: it is the site's own folder hash, nothing to compare with.
        s.world.locate(s.world.dp1_url, hashes=[(32780, "AB" * 32, 4)],
                       Hash="AB" * 32, HashAlgorithm="32780")
        run = s.download()
        expect(run.json["result"] == "verified", run.json)
        os.unlink(s.world.policy)
        wants(s.run("--download", NAME, "--json"), 4)


# -- --replay ---------------------------------------------------------------------------------------------------

@check
def replay_of_all_samples_in_all_encodings():
    with Small(mp=False) as s:
        for name in sorted(os.listdir(SAMPLES)):
            if not name.endswith(".xml"):
                continue
            with open(os.path.join(SAMPLES, name), encoding="utf-8") as stream:
                text = stream.read()
            bare = re.sub(r"^<\?xml[^>]*\?>\s*", "", text)
            files = {"utf8": text.encode(), "utf8bom": b"\xef\xbb\xbf" + text.encode(),
                     "utf16": b"\xff\xfe" + bare.encode("utf-16-le"),
                     "utf16bare": bare.encode("utf-16-le"),
                     "utf16nul": (bare + "\0").encode("utf-16-le"),
                     "utf16be": b"\xfe\xff" + bare.encode("utf-16-be")}
            seen = {}
            for kind, data in files.items():
                path = s.path("reply.xml")
                with open(path, "wb") as out:
                    out.write(data)
                run = s.run("--replay", path, "--json")
                wants(run, 0)
                expect(run.json["locations"], name, kind, "no location")
                seen[kind] = run.out
                same(s.run("--replay", path, "--json").out, run.out, "the second time")
                text_run = s.run("--replay", path)
                same(s.run("--replay", path).out, text_run.out, "as text")
            same(len(set(seen.values())), 1, name + ": encodings differ "
                 + str([k for k in seen if seen[k] != seen["utf8"]]))


@check
def replay_without_network_and_state():
    with Small() as s:
        path = os.path.join(SAMPLES, "package-everything.xml")
        state = sorted(os.listdir(s.path("state")))
        shutil.rmtree(s.path("cache"))
        run = s.run("--replay", path, "--json")
        wants(run, 0)
        same(len(s.mp.requests()), 0, "requests")
        same(sorted(os.listdir(s.path("state"))), state, "state")
        expect(not os.path.exists(s.path("cache")), "a cache was made")
        os.chmod(s.path("state"), 0o555)
        same(s.run("--replay", path, "--json").out, run.out)


@check
def replay_with_content_takes_its_policy():
    with Small(mp=False) as s:
        path = os.path.join(SAMPLES, "package-everything.xml")
        s.policy(cloud="never")
        run = s.run("--replay", path, PACKAGE, "--json")
        wants(run, 0)
        same((run.json["content"], run.json["cloud_allowed"]), (PACKAGE, False))
        expect(not any(x["usable"] for x in run.json["locations"]
                       if x["kind"] == "cloud"), "cloud = never")
        bare = s.run("--replay", path, "--json")
        wants(bare, 0)
        expect(any(x["usable"] for x in bare.json["locations"]
                   if x["kind"] == "cloud"), "without CONTENT")


@check
def replay_ends_as_locate_does():
    with Small(mp=False) as s:
        path = s.path("reply.xml")

        def put(text):
            with open(path, "w", encoding="utf-8") as out:
                out.write(text)
        put(replies.location_reply())
        wants(s.run("--replay", path, "--json"), 11)
        put(replies.location_reply([replies.record(CLOUD)]))
        wants(s.run("--replay", path, "--json"), 0)
        wants(s.run("--replay", path, "--json", "--set", "cloud.allow=no"), 12)
        for bad in ("<Other/>", "", "nonsense", "<ContentLocationReply>"):
            put(bad)
            run = s.run("--replay", path, "--json")
            expect(run.status in (3, 10), repr(bad), run.status)
        missing = s.run("--replay", s.path("nobody.xml"), "--json")
        expect(missing.status in (2, 3), missing.status)
        expect("nobody.xml" in missing.err, missing.err)


@check
def tokens_of_a_reply_are_not_kept():
    with Small() as s:
        s.locate(replies.record(DP, AccessToken=TOKEN))
        run = locate(s, "--verbose")
        found = find_text(TOKEN, s.path("log"), s.path("state"))
        same(found, [], "the token is in")
        expect(TOKEN not in run.out + run.err, "the token is in the output")


if __name__ == "__main__":
    sys.exit(main())
