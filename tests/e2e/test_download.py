#!/usr/bin/env python3
"""--download from end to end, on real servers: what arrives, from where, and why."""

import os
import re
import signal
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from harness import *                                               # noqa: E402,F403
import harness                                                      # noqa: E402

SLOT = 1 << 20          # the most that one slot of the ring holds
BIG = {"big.bin": 6 << 20, "sub/small.txt": 1000}


# -- whole downloads, one kind of server each ----------------------------------------

def from_one(part_of, content=None, scheme="http", vdir="SMS_DP_SMSPKG$", names=False,
             **settings):
    """Download from a single distribution point; gives site, run and the part."""
    def decorate(function):
        def made():
            with Small(**(content or {})) as s:
                if names:
                    s.names()
                part = part_of(s.lab)
                host = "dp02.example.net" if names else "127.0.0.1"
                s.locate(s.share(part, scheme, host, vdir))
                s.policy()
                s.conf(**settings)
                run = s.download()
                same(run.json["result"], "verified", "result")
                same(run.json["files"], len(s.content.files), "files")
                same(run.json["bytes_total"], s.content.total, "bytes_total")
                same(run.json["bytes_received"], s.content.total, "bytes_received")
                same(run.json["bytes_resumed"], 0, "bytes_resumed")
                s.expect_published()
                expect(not s.partial(), "a partial folder is left behind")
                function(s, run, part)
        made.__name__ = function.__name__
        return check(made)
    return decorate


@from_one(lambda l: l.dp_nginx())
def nginx_http(s, run, part):
    log = web.access_log(part)
    expect(all("sccm?/" in r["uri"] for r in gets(log)), "sccm?/ is not used")
    same(run.json["source"]["kind"], "on-prem")


@from_one(lambda l: l.dp_nginx(tls=l.ca.server(labs.HOSTS[2])), scheme="https", names=True)
def nginx_https(s, run, part):
    expect(all(r["host"].startswith("dp02.example.net") for r in web.access_log(part)),
           "Host is not the name of the location")


@from_one(lambda l: l.dp_nginx(tls=l.ca.server(labs.HOSTS[2]), http2=True),
          scheme="https", names=True)
def nginx_http2(s, run, part):
    same({r["protocol"] for r in gets(web.access_log(part))}, {"HTTP/2.0"}, "protocol")


@from_one(lambda l: l.dp_nginx(keepalive=False))
def a_server_that_closes_after_each_answer(s, run, part):
    pass


@from_one(lambda l: l.dp_apache())
def apache_mod_dav(s, run, part):
    """No sccm?/ there: the plain form, and not one useless request a file."""
    missed = [r for r in gets(web.access_log(part)) if r["status"] == 404]
    expect(len(missed) <= 8 + 1, "asked in vain %d times" % len(missed))


@from_one(lambda l: l.dp_apache(), content={"files": 60, "total": 60000})
def apache_the_form_is_learnt(s, run, part):
    wants(s.run("--cache", "remove", NAME), 0)
    before = len(web.access_log(part))
    s.download()
    missed = [r for r in gets(web.access_log(part)[before:]) if r["status"] == 404]
    same(len(missed), 0, "sccm?/ was asked in vain again")


@from_one(lambda l: l.dp_iis())
def iis_absolute_hrefs(s, run, part):
    expect(part.server.asked("PROPFIND"), "no PROPFIND")
    expect(all(r.header("Accept-Encoding", "identity") == "identity"
               for r in part.server.asked("GET")), "a content coding is offered")


@from_one(lambda l: l.dp_iis(href="sccm"))
def iis_hrefs_of_the_sccm_form(s, run, part):
    pass


@from_one(lambda l: l.dp_iis(href="path", prefix="D", plain=False))
def iis_serves_only_the_sccm_form(s, run, part):
    pass


@from_one(lambda l: l.dp_iis(lengths=False))
def iis_without_lengths(s, run, part):
    pass


@from_one(lambda l: l.dp_iis(etags="none"))
def iis_without_etags(s, run, part):
    pass


@from_one(lambda l: l.dp_nginx(), content={"files": 2000, "total": 2000 * 700})
def two_thousand_small_files(s, run, part):
    log = gets(web.access_log(part))
    same(len(log), 2000, "one GET a file")
    connections = len({r["connection"] for r in log})
    expect(connections <= 16, "connections are not kept: %d" % connections)


@from_one(lambda l: l.dp_nginx(), content={"files": {
    "a/b/c/d/e/f/g/h/i/j/k/l/m.txt": 10, "a/b/x.txt": 0, "z" * 200: 3, " leading": 1, "trailing ": 1, "trailing.": 2,
    "con": 4, "a;b": 1, "back`tick": 1, "per%cent": 2, "a+b": 1, "semi:colon": 1,
    "q?mark": 7, "ha#sh": 7, "star*": 1, "[1]": 1, "é": 1, "é.": 1,
    "\U0001f600": 4, "comma,": 1, "equal=": 2, "amp&": 1, "<lt>": 1,
    "quote\"two": 1, "~tilde": 1, "-dash": 1, "--download": 1}})
def odd_names(s, run, part):
    pass


@from_one(lambda l: l.dp_iis(), content={"files": {
    "q?mark&x=1": 7, "ha#sh": 7, "per%41cent": 2, "a+b c": 1, "é/ü": 3,
    "sccm/x": 1, "<lt>&amp;": 2, "dir.with.dots/..hidden/...": 5, ".dot": 1}})
def odd_names_from_iis(s, run, part):
    pass


@from_one(lambda l: l.dp_apache(), content={"files": {
    "q?mark&x=1": 7, "ha#sh": 7, "per%41cent": 2, "a+b c": 1, "é/ü": 3, "<lt>&": 2, ".d/.e": 1}})
def odd_names_from_apache(s, run, part):
    pass


@from_one(lambda l: l.dp_nginx(), content={"files": {"only.empty": 0}})
def one_empty_file(s, run, part):
    pass


@from_one(lambda l: l.dp_nginx(), content={"files": {"one.bin": 100000}})
def one_single_file(s, run, part):
    pass


@from_one(lambda l: l.dp_nginx(), content={"files": {}})
def an_empty_folder(s, run, part):
    same(run.json["hash"], "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca49"
         "5991b7852b855", "hash")


@from_one(lambda l: l.dp_nginx(), content={"files": 40, "total": 4 << 20},
          transfer__connections=1)
def one_connection(s, run, part):
    same(len({r["connection"] for r in gets(web.access_log(part))}), 1, "connections")


@from_one(lambda l: l.dp_nginx(), content={"files": {"x": 3 << 20, "y": 3 << 20}},
          transfer__rate_limit="3M")
def a_rate_limit(s, run, part):
    """In all, not for each transfer; what one second brings may come at once."""
    expect(run.json["duration_ms"] >= 900, "it took only %d ms"
           % run.json["duration_ms"])


@check
def an_application_and_an_update():
    """Content ids of the three kinds, as the management point wants them."""
    with Small() as s:
        for cid, asked in (
                ("Content_1f0c2d3e-0000-4000-8000-0123456789ab",
                 "UID:Content_1f0c2d3e-0000-4000-8000-0123456789ab"),
                ("1f0c2d3e-0000-4000-8000-0123456789ab",
                 "UID:1f0c2d3e-0000-4000-8000-0123456789ab")):
            content = s.lab.content(cid + ".7", {"a": 10}, under="other")
            part = s.lab.dp_nginx(s.path("other"))
            s.mp.publish(asked, replies.location_reply([replies.record(
                "http://127.0.0.1:%d/SMS_DP_SMSPKG$/%s.7" % (part.port, cid))]))
            s.lab.policy(cid, 7, content)
            run = s.run("--download", cid + ".7", "--json")
            wants(run, 0)
            same((run.json["content"], run.json["version"]), (cid, 7))
            last = [r for r in s.mp.requests() if "package_id" in r][-1]
            same(last["package_id"].lower(), asked.lower())
            same(last["location_type"], "SMSUpdate")
            same(last["violations"], [])


# -- options and policy ----------------------------------------------------------------

@check
def the_json_has_the_fields_of_the_contract():
    with Site() as s:
        run = s.download()
        want = {"content": str, "version": int, "result": str, "hash": str,
                "path": str, "files": int, "bytes_total": int, "bytes_received": int,
                "bytes_resumed": int, "duration_ms": int, "source": dict,
                "attempts": list}
        for name, kind in want.items():
            expect(isinstance(run.json.get(name), kind), name, run.json.get(name))
        same(run.json["error"], None)
        same(run.json["content"], PACKAGE)
        same(run.json["hash"], s.content.hash)
        same(run.json["path"], s.published())
        same(sorted(k for k in ("kind", "host", "url") if k in run.json["source"]),
             ["host", "kind", "url"])
        for one in run.json["attempts"]:
            for name in ("kind", "host", "url", "error", "bytes_received"):
                expect(name in one, name, "is not in an attempt")
        same(run.out.count("\n"), 1, "lines on stdout")


@check
def results_and_messages_do_not_mix():
    with Site() as s:
        run = s.run("--download", PACKAGE)
        wants(run, 0)
        expect(s.published() in run.out.split("\n"), "the path is not a line of its own")
        expect("agent:" not in run.out and "warning" not in run.out, run.out)
        expect(s.content.hash not in run.err, "a result on stderr")
        s.forget()
        quiet = s.run("--download", PACKAGE, "--quiet")
        wants(quiet, 0)
        same(quiet.err, "", "--quiet on stderr")
        same(quiet.out.strip(), s.published(), "--quiet on stdout")


@check
def cached_without_a_byte_over_the_network():
    with Site() as s:
        s.download()
        before = s.traffic()
        run = s.download()
        same(run.json["result"], "cached")
        same((run.json["bytes_received"], run.json["bytes_total"]), (0, s.content.total))
        same((run.json["files"], run.json["hash"]), (len(s.content.files),
                                                     s.content.hash))
        same(run.json["path"], s.published())
        same(s.traffic(), before, "requests")


@check
def damaged_cache_is_fetched_again():
    with Site() as s:
        s.download()
        folder = s.published()
        for damage in ("bit", "gone", "more", "link"):
            victim = os.path.join(folder, "setup.exe")
            os.chmod(folder, 0o755)
            os.chmod(victim, 0o644)
            if damage == "bit":
                contents.tamper(victim)
            elif damage == "gone":
                os.unlink(victim)
            elif damage == "more":
                with open(os.path.join(folder, "stranger"), "w") as out:
                    out.write("x")
            else:
                os.unlink(victim)
                os.symlink("/etc/passwd", victim)
            run = s.download()
            same(run.json["result"], "verified", damage)
            s.expect_published()
            expect(not os.path.islink(victim), "still a link")


@check
def to_a_folder():
    with Site() as s:
        target = s.path("out")
        run = s.download("--to", target)
        same((run.json["result"], run.json["path"]), ("verified", target))
        same(contents.folder_hash(target), s.content.hash)
        same(contents.files(target), s.content.files)
        s.expect_nothing()
        same(sorted(n for n in os.listdir(s.lab.folder) if "out" in n), ["out"],
             "beside the target")
        before = len(web.access_log(s.world.dp1))
        run = s.download("--to", target)
        same((run.json["result"], run.json["bytes_received"]), ("cached", 0), "again")
        same(len(web.access_log(s.world.dp1)), before, "requests")


@check
def to_a_folder_that_holds_something_else():
    with Site() as s:
        target = s.path("out")
        os.makedirs(os.path.join(target, "old"))
        with open(os.path.join(target, "old", "file"), "w") as out:
            out.write("precious")
        run = s.run("--download", PACKAGE, "--to", target, "--json")
        if run.status == 0:
            same(contents.files(target), s.content.files, "DIR holds exactly the content")
        else:
            same(contents.files(target), ["old/file"], "untouched")
            expect(run.json and run.json["error"], "no error")


@check
def to_a_folder_that_is_there_and_empty():
    with Site() as s:
        os.makedirs(s.path("out"))
        s.download("--to", s.path("out"))
        same(contents.files(s.path("out")), s.content.files)


@check
def to_a_folder_failed():
    with Site() as s:
        s.tamper("setup.exe", "dp01", "dp02", "store")
        run = s.download("--to", s.path("out"), status=23)
        same(run.json["path"], None)
        left = contents.files(s.path("out")) if os.path.isdir(s.path("out")) else []
        expect(not [f for f in left if f in s.content.files], "final names:", left)


@check
def hash_on_the_command_line():
    with Site() as s:
        os.unlink(s.world.policy)
        run = s.download(status=4)
        same(error_of(run)["code"], "NO_HASH")
        run = s.run("--download", NAME, "--hash", s.content.hash, "--json")
        wants(run, 0)
        same(run.json["result"], "verified")
        s.expect_published()


@check
def hash_in_capitals():
    with Site() as s:
        s.download("--hash", "sha256:" + s.content.hash[7:].upper())


@check
def hash_that_differs_from_policy():
    with Site() as s:
        other = "sha256:" + "ab" * 32
        run = s.run("--download", PACKAGE, "--hash", other, "--json")
        wants(run, 2)
        same(run.out, "", "stdout")
        expect("ab" * 32 in run.err and s.content.hash[7:] in run.err,
               "both hashes are not named:", run.err)
        wants(s.run("--download", PACKAGE, "--hash", s.content.hash), 0)


@check
def wrong_hash_on_the_command_line():
    with Site() as s:
        os.unlink(s.world.policy)
        run = s.run("--download", NAME, "--hash", "sha256:" + "ab" * 32, "--json")
        wants(run, 23)
        same(run.json["result"], "failed")
        s.expect_nothing()


@check
def allow_unverified():
    with Site() as s:
        os.unlink(s.world.policy)
        wants(s.run("--download", NAME, "--allow-unverified"), 2)
        run = s.run("--download", NAME, "--allow-unverified", "--to", s.path("out"),
                    "--json")
        wants(run, 0)
        same(run.json["result"], "unverified")
        same(contents.folder_hash(s.path("out")), s.content.hash)
        s.expect_nothing()


@check
def allow_unverified_with_a_known_hash_still_checks():
    with Site() as s:
        s.tamper("setup.exe", "dp01", "dp02", "store")
        wants(s.run("--download", PACKAGE, "--allow-unverified", "--to",
                    s.path("out"), "--json"), 23)


@check
def dry_run():
    with Site() as s:
        run = s.download("--dry-run")
        same(run.json["result"], "planned")
        same((run.json["bytes_received"], run.json["path"]), (0, None))
        same(len(web.access_log(s.world.dp1)) + len(web.access_log(s.world.dp2))
             + len(s.world.cloud.requests()), 0, "requests to sources")
        s.expect_nothing()
        expect(not s.partial(), "a partial folder")
        text = s.run("--download", PACKAGE, "--dry-run")
        wants(text, 0)
        expect("dp01.example.net" in text.out, text.out)


@check
def dry_run_where_it_is_cached():
    with Site() as s:
        s.download()
        run = s.download("--dry-run")
        expect(run.json["result"] in ("cached", "planned"), run.json["result"])


@check
def file_list_policy():
    with Site() as s:
        s.lab.policy(PACKAGE, VERSION, s.content, files=True)
        s.download()
        s.expect_published()


@check
def file_list_without_hash():
    """The list alone names the content: its own hash is the content hash."""
    with Site() as s:
        s.lab.policy(PACKAGE, VERSION, s.content, files=True, hash="", size="")
        run = s.run("--download", PACKAGE, "--json")
        expect(run.status in (0, 4), run.status, run.err)
        if run.status == 0:
            s.expect_published()


@check
def file_list_names_the_tampered_file():
    with Site() as s:
        s.lab.policy(PACKAGE, VERSION, s.content, files=True)
        s.tamper("sub/deep/er/still/leaf.bin", "dp01", "dp02", "store")
        run = s.download(status=23)
        expect("sub/deep/er/still/leaf.bin" in error_of(run)["text"], error_of(run))
        s.expect_nothing()


@check
def file_list_file_missing_on_one_source():
    """A listed file that the first source lacks: the next one delivers."""
    with Site() as s:
        s.lab.policy(PACKAGE, VERSION, s.content, files=True)
        os.unlink(s.path("dp01", PACKAGE, "setup.exe"))
        run = s.download()
        same([a[0] for a in attempts_of(run)], ["dp01.example.net", "dp02.example.net"])
        expect("setup.exe" in run.json["attempts"][0]["error"]["text"], "not named")
        s.expect_published()


@check
def file_list_stranger_on_the_source():
    """A file more on the source, which no list names, is not taken."""
    with Site() as s:
        s.lab.policy(PACKAGE, VERSION, s.content, files=True)
        with open(s.path("dp01", PACKAGE, "stranger.exe"), "w") as out:
            out.write("x" * 1000)
        s.download()
        s.expect_published()


@check
def file_list_that_is_not_of_the_hash():
    with Site() as s:
        s.lab.policy(PACKAGE, VERSION, s.content, files=True, hash="sha256:" + "ab" * 32)
        run = s.download(status=3)
        same(error_of(run)["code"], "CONFIG")
        expect(".ini:" in run.err or ".sha256" in run.err, run.err)
        same(s.traffic(), (0, 0, 0, 0, 0), "requests")


@check
def size_that_the_content_has_not():
    with Site() as s:
        for size in (s.content.total + 1, s.content.total - 1):
            s.lab.policy(PACKAGE, VERSION, s.content, size=size)
            run = s.download(status=23)
            expect(str(s.content.total) in error_of(run)["text"]
                   and str(size) in error_of(run)["text"], error_of(run))
            s.expect_nothing()


@check
def version_of_the_content():
    """Policy knows it; another version is another content."""
    with Site() as s:
        same(s.download().json["version"], 3)
        run = s.run("--download", PACKAGE + ".4", "--json")
        wants(run, 4)


@check
def content_ids_without_regard_to_case():
    with Site() as s:
        run = s.run("--download", PACKAGE.lower(), "--json")
        wants(run, 0)
        s.expect_published()


@check
def mode_and_owner_of_what_is_published():
    with Site() as s:
        for base, dirs, names in os.walk(s.path("dp01")):
            for name in names:
                path = os.path.join(base, name)
                shutil.copy2(path, path + ".new")
                os.chmod(path + ".new", 0o4777)
                os.replace(path + ".new", path)
        s.download()
        for base, dirs, names in os.walk(s.published()):
            for name in names:
                about = os.stat(os.path.join(base, name))
                same(about.st_mode & 0o7133, 0, "mode of " + name)
                same(about.st_nlink, 1, "links of " + name)


# -- order of the sources ---------------------------------------------------------------

@check
def on_premises_first_in_the_order_of_the_reply():
    with Site() as s:
        run = s.download()
        same(attempts_of(run), [("dp01.example.net", "on-prem", None)])
        same(bytes_served(web.access_log(s.world.dp1)), s.content.total)
        same(bytes_served(web.access_log(s.world.dp2)), 0)


@check
def the_next_one_when_the_first_lacks_it():
    with Site() as s:
        s.without("dp01")
        run = s.download()
        same(attempts_of(run), [("dp01.example.net", "on-prem", "TRANSFER"),
                                ("dp02.example.net", "on-prem", None)])
        same(run.json["source"]["host"].split(":")[0], "dp02.example.net")
        expect("404" in run.json["attempts"][0]["error"]["text"],
               run.json["attempts"][0]["error"])


@check
def the_cloud_when_nobody_has_it():
    with Site() as s:
        s.without("dp01", "dp02")
        run = s.download()
        same([a[1:] for a in attempts_of(run)],
             [("on-prem", "TRANSFER"), ("on-prem", "TRANSFER"), ("cloud", None)])
        same(run.json["source"]["kind"], "cloud")
        same(bytes_served(web.access_log(s.world.storage)), s.content.total)
        s.expect_published()


@check
def the_cloud_when_the_others_are_down():
    with Site() as s:
        s.lab.parts.stop(s.world.dp1)
        s.lab.parts.stop(s.world.dp2)
        run = s.download()
        same(run.json["source"]["kind"], "cloud")
        same({a[0] for a in attempts_of(run)[:-1]}, {"dp01.example.net",
                                                     "dp02.example.net"})


@check
def several_cloud_sources():
    """Measured first (docs/wire.md 11): one that does not answer goes behind; equal
    ones keep the order of the reply."""
    with Site() as s:
        good = s.world.cloud_url
        dead = good.replace(":%d/" % s.world.cloud.port, ":1/")
        s.world.locate(dead, good)
        run = s.download()
        same([(a["url"].split("?")[0], a["error"]) for a in run.json["attempts"]],
             [(good.split("?")[0], None)])
        s.forget()
        other = good.replace("WallaceFalls", "wallacefalls") + "&second=1"
        s.world.locate(good, other)
        run = s.download()
        same(len(run.json["attempts"]), 1)
        expect("second=1" not in run.json["source"]["url"], run.json["source"])


@check
def a_bad_certificate_is_never_used():
    with Site() as s:
        bad = s.lab.dp_nginx(s.path("dp01"), tls=other_ca().server(labs.HOSTS[2]))
        s.world.locate("https://dp02.example.net:%d/SMS_DP_SMSPKG$/%s"
                       % (bad.port, PACKAGE), s.world.dp1_url)
        run = s.download()
        same(attempts_of(run), [("dp02.example.net", "on-prem", "TLS"),
                                ("dp01.example.net", "on-prem", None)])
        same(len(web.access_log(bad)), 0, "requests to the bad server")


@check
def a_bad_certificate_alone_is_21():
    with Site() as s:
        bad = s.lab.dp_nginx(s.path("dp01"), tls=s.lab.ca.expired(labs.HOSTS[2]))
        s.world.locate("https://dp02.example.net:%d/SMS_DP_SMSPKG$/%s"
                       % (bad.port, PACKAGE))
        run = s.download(status=21)
        same((error_of(run)["code"], error_of(run)["step"]), ("TLS", "verify"))


@check
def status_of_the_last_source():
    with Site() as s:
        s.without("dp01", "dp02", "store")
        s.world.locate(s.world.dp1_url, s.world.dp2_url)
        run = s.download(status=22)
        same(len(run.json["attempts"]), 2)
        expect(all(a["error"] for a in run.json["attempts"]), "an attempt without error")
        for host in ("dp01.example.net", "dp02.example.net"):
            expect(host in run.err, "stderr does not name", host)


@check
def a_name_that_does_not_exist_is_20():
    with Site() as s:
        s.world.locate("http://dp99.example.net/SMS_DP_SMSPKG$/" + PACKAGE)
        run = s.download(status=20)
        expect("NXDOMAIN" in error_of(run)["text"]
               or "does not exist" in error_of(run)["text"], error_of(run))


@check
def from_selects():
    with Site() as s:
        for word, host in (("on-prem", "dp01.example.net"),
                           ("cloud", "wallacefalls.contoso.com"),
                           ("dp02.example.net", "dp02.example.net"),
                           ("DP02.example.net", "dp02.example.net")):
            run = s.download("--from", word)
            same([a[0] for a in attempts_of(run)], [host], word)
            s.forget()
        port = s.world.dp2.port
        run = s.download("--from", "dp02.example.net:%d" % port)
        same([a[0] for a in attempts_of(run)], ["dp02.example.net"])
        s.forget()
        run = s.download("--from", "nobody.example.net", status=11)
        expect("nobody.example.net" in run.err, run.err)
        s.expect_nothing()


@check
def from_cloud_that_is_not_allowed_is_12():
    with Site() as s:
        s.lab.policy(PACKAGE, VERSION, s.content, cloud="never")
        s.download("--from", "cloud", status=12)


@check
def cloud_not_allowed_by_the_setting():
    with Site() as s:
        s.conf(cloud__allow="no")
        s.download()
        same(s.locations()[-1]["use_azure"], "0", "UseAzure")
        s.forget()
        s.world.locate(s.world.cloud_url)      # the stand-in cuts it: empty list
        run = s.download(status=11)
        same(s.locations()[-1]["use_azure"], "0", "UseAzure")
        text = error_of(run)["text"]
        expect("allow" in text and "cloud" in text, "the setting is not named:", text)
        same(len(s.world.cloud.requests()), 0, "requests to the cloud")


@check
def cloud_not_allowed_and_only_cloud_listed():
    """A management point that lists the cloud all the same."""
    with Site() as s:
        s.conf(cloud__allow="no")
        body = s.path("reply.xml")
        with open(body, "w") as out:
            # The stand-in cuts records out of its own reply, not out of a body.
            out.write(replies.location_reply([labs.World._record(s.world.cloud_url)]))
        s.world.mp.script("on location\nbody %s\n" % body)
        run = s.download(status=12)
        same(error_of(run)["code"], "CLOUD_REFUSED")
        same(len(s.world.cloud.requests()), 0, "requests to the cloud")


@check
def cloud_never_and_prefer():
    with Site() as s:
        s.lab.policy(PACKAGE, VERSION, s.content, cloud="prefer")
        same([a[1] for a in attempts_of(s.download())], ["cloud"], "prefer")
        s.forget()
        s.lab.policy(PACKAGE, VERSION, s.content, cloud="never")
        s.without("dp01", "dp02")
        run = s.download(status=22)
        same([a[1] for a in attempts_of(run)], ["on-prem", "on-prem"], "never")
        s.world.locate(s.world.cloud_url)
        s.download(status=12)
        expect(len(gets(web.access_log(s.world.storage))) <= len(s.content.files),
               "the cloud was used again")


@check
def prefer_is_not_stronger_than_the_setting():
    with Site() as s:
        s.lab.policy(PACKAGE, VERSION, s.content, cloud="prefer")
        s.conf(cloud__allow="no")
        same([a[1] for a in attempts_of(s.download())], ["on-prem"])


@check
def no_source_is_11():
    with Site() as s:
        s.world.locate()
        run = s.download(status=11)
        same(error_of(run)["code"], "NO_LOCATION")
        s.expect_nothing()


@check
def peers_are_not_used():
    with Site() as s:
        s.world.locate(replies.record(
            "https://peer.example.net:8003/SCCM_BranchCache$/" + PACKAGE,
            locality="SUBNETPEER"))
        s.download(status=11)


# -- the cloud -----------------------------------------------------------------------------

@check
def token_to_the_service_and_never_to_storage():
    with Site() as s:
        s.without("dp01", "dp02")
        s.download()
        asked = s.world.cloud.requests()
        expect(asked and all(r["token_good"] for r in asked), "the service got no token")
        expect(all(r["violations"] == [] for r in asked), [r["violations"] for r in asked])
        for part in (s.world.storage, s.world.dp1, s.world.dp2):
            with open(os.path.join(part.folder, "access.log")) as log:
                expect(TOKEN not in log.read(), "the token reached", part.name)


@check
def token_of_the_location_goes_before_our_own():
    with Site() as s:
        s.conf(client__token_file=None)
        s.without("dp01", "dp02")
        s.download(status=22)        # without any token: 401
        s.world.locate(replies.record(s.world.cloud_url, locality="",
                                      AccessToken=TOKEN))
        s.download()
        expect(s.world.cloud.requests()[-1]["token_good"], "not the location's token")


@check
def storage_of_the_service_itself():
    """A manifest without Url: the files come from the service."""
    with Site() as s:
        s.without("dp01", "dp02", "store")
        s.world.cloud.publish(PACKAGE, s.world.manifest(url=None))
        s.download()
        s.expect_published()
        expect(all(r["violations"] == [] for r in s.world.cloud.requests()),
               [r["violations"] for r in s.world.cloud.requests() if r["violations"]])


@check
def manifest_with_backslashes():
    with Site() as s:
        s.without("dp01", "dp02")
        s.world.cloud.publish(PACKAGE, s.world.manifest(separator="\\"))
        s.download()
        s.expect_published()


@check
def manifest_without_hashes_and_sizes():
    with Site() as s:
        s.without("dp01", "dp02")
        s.world.cloud.publish(PACKAGE, s.world.manifest(hashes=False, sizes=False))
        s.download()
        s.expect_published()


@check
def manifest_with_a_hash_that_is_wrong():
    """What the network says can only make the agent stricter."""
    with Site() as s:
        s.without("dp01", "dp02")
        s.world.cloud.publish(PACKAGE, s.world.manifest(
            change={"setup.exe": {"Hash": "00" * 32}}))
        run = s.download(status=23)
        expect("setup.exe" in error_of(run)["text"], error_of(run))


@check
def manifest_with_names_that_may_not_be():
    with Site() as s:
        s.without("dp01", "dp02")
        for name in ("../evil", "/etc/evil", "a/../../evil", "C:\\..\\..\\evil", "a//b",
                     "./a", "a\\..\\..\\..\\evil", "SETUP.EXE", "setup.exe/below"):
            s.world.cloud.publish(PACKAGE, s.world.manifest(
                change={"readme.txt": {"Name": name}}))
            run = s.run("--download", PACKAGE, "--json")
            expect(run.status in (22, 23), name, run.status, run.err)
            s.expect_nothing()
            expect(not os.path.exists("/etc/evil"), "a file outside")
            expect(not find_files("evil", s.lab.folder), "a file outside")


def find_files(word, folder):
    return [os.path.join(base, n) for base, _, names in os.walk(folder)
            for n in names if word in n]


@check
def another_root_element_fails_the_source():
    with Site() as s:
        s.world.cloud.publish(PACKAGE, "<EncryptedContent><x/></EncryptedContent>")
        s.world.locate(s.world.cloud_url)
        run = s.download(status=22)
        expect("EncryptedContent" in error_of(run)["text"], error_of(run))


@check
def tampered_in_the_cloud_names_the_file():
    with Site() as s:
        s.without("dp01", "dp02")
        s.tamper("sub/tools.msi", "store")
        run = s.download(status=23)
        expect("sub/tools.msi" in error_of(run)["text"], error_of(run))
        # no copy on-premises was wrong, and the length is right: docs/wire.md 6.4
        expect("ciphertext" in error_of(run)["text"], error_of(run))
        s.expect_nothing()


@check
def suffix_of_the_alias():
    with Site() as s:
        s.conf(cloud__suffix=["cloudapp.azure.com", "blob.core.windows.net"])
        s.world.locate(s.world.cloud_url)
        run = s.download(status=20)
        text = error_of(run)["text"]
        expect(labs.ALIAS in text and "suffix" in text, text)
        same(len(s.world.cloud.requests()), 0, "requests to the cloud")


@check
def suffix_is_compared_by_whole_labels():
    with Site() as s:
        s.conf(cloud__suffix=["app.net", "windows.net"])
        s.world.locate(s.world.cloud_url)
        s.download(status=20)


@check
def suffix_of_the_storage():
    with Site() as s:
        s.conf(cloud__suffix=["cloudapp.net"])
        s.world.locate(s.world.cloud_url)
        run = s.download(status=20)
        expect("blob.core.windows.net" in error_of(run)["text"], error_of(run))
        same(len(web.access_log(s.world.storage)), 0, "requests to storage")


@check
def no_suffix_is_any():
    with Site() as s:
        s.conf(cloud__suffix=[])
        s.world.locate(s.world.cloud_url)
        s.download()


@check
def a_certificate_for_the_target_of_the_alias_is_refused():
    with Site() as s:
        bad = s.lab.cloud(s.lab.ca.server(labs.ALIAS), token=TOKEN)
        bad.publish(PACKAGE, s.world.manifest())
        s.world.locate(replies.cloud_url(labs.SERVICE, bad.port, PACKAGE))
        run = s.download(status=21)
        expect("name" in error_of(run)["text"].lower()
               or labs.SERVICE.lower() in error_of(run)["text"].lower(), error_of(run))
        same(len(bad.requests()), 0, "requests with a token")


@check
def cloud_over_http_is_not_used():
    with Site() as s:
        url = s.world.cloud_url.replace("https://", "http://")
        s.world.locate(url)
        run = s.run("--download", PACKAGE, "--json")
        expect(run.status in (11, 12, 21, 22), run.status, run.err)
        same(len(s.world.cloud.requests()), 0, "requests")


@check
def service_refuses_the_token():
    with Site() as s:
        with open(s.path("token"), "w") as out:
            out.write("another\n")
        s.without("dp01", "dp02")
        run = s.download(status=22)
        expect("403" in error_of(run)["text"], error_of(run))
        located = len(s.locations())
        expect(located <= 4, "located %d times" % located)


@check
def azurite_with_signatures():
    with Site(storage="azurite") as s:
        s.without("dp01", "dp02")
        run = s.download()
        same(run.json["source"]["kind"], "cloud")
        s.expect_published()
        expect("sig=" not in run.out + run.err.replace("sig=***", "")
               or "sig=*" in run.out + run.err, "a signature in the output")


class Storage(harness.labs.iis.IisServer):
    """Azure storage as far as it matters here: signatures that end, If-Match."""

    refusal = (b"<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>"
               b"AuthenticationFailed</Code><Message>Signature not valid in the "
               b"specified time frame</Message></Error>")

    def __init__(self, root, **how):
        self.good, self.gate, self.last = "sig-1", None, None
        super().__init__(root, at_root=True, **how)

    def respond(self, connection, request):
        if "sig=" + self.good not in request.query:
            answer = harness.labs.iis.page(403, [("Content-Type", "application/xml")])
            answer.page, answer.first, answer.last = self.refusal, 0, len(
                self.refusal) - 1
            answer.total = len(self.refusal)
            return self.send(connection, request, answer)
        if self.last is not None:
            self.last -= 1
            if self.last == 0:
                # the new manifest first: another connection asks for it at once
                self.on_cut()
                self.last, self.good = None, "sig-2"
        answer = self.answer(connection, request)
        if self.gate and answer.path and answer.length > self.gate:
            # A part of it, and then the connection ends.
            connection.send(harness.labs.iis.head(answer))
            connection.send(answer.read(answer.first, self.gate))
            self.on_cut()
            self.gate, self.good = None, "sig-2"
            return False
        return self.send(connection, request, answer)


def signed_site(files):
    """Content only in a Storage; .manifest(sig) names it."""
    s = Site(files=files, total=sum(files.values()))
    try:
        s.without("dp01", "dp02")
        s.server = Storage(s.path("store"), tls=s.lab.ca.server(
            "*.blob.core.windows.net", file="storage"))
        part = s.lab.parts.adopt("azure", s.server)
        s.sign = lambda sig: s.world.cloud.publish(PACKAGE, s.world.manifest(
            url=lambda n: "https://%s:%d/content/%s/%s?sv=1&sig=%s" % (
                labs.STORE, part.port, PACKAGE, n, sig)))
        s.sign("sig-1")
        s.server.on_cut = lambda: s.sign("sig-2")
    except BaseException:
        s.lab.stop()
        raise
    return s


@check
def signature_is_over_and_the_connection_breaks():
    """On from the partial file: no byte is fetched twice beyond one slot."""
    with signed_site({"big.bin": 5 << 20}) as s:
        s.server.gate = 3 << 20
        run = s.download()
        s.expect_published()
        served = s.server.asked("GET")
        ranges = [r.header("Range") for r in served if "sig-2" in r.query]
        expect(ranges and ranges[0], "not resumed:", ranges)
        first = int(re.match(r"bytes=(\d+)-", ranges[0]).group(1))
        expect(first >= (3 << 20) - SLOT, "only from %d on" % first)
        expect(run.json["bytes_received"] <= s.content.total + SLOT,
               run.json["bytes_received"])
        expect(all(r.header("If-Match") or r.header("If-Range")
                   for r in served if r.header("Range")), "a range without condition")
        expect(not s.server.saw_header(TOKEN), "the token reached storage")


@check
def signature_is_over_in_mid_transfer():
    """The next file gets 403: located again, and only the rest is fetched."""
    with signed_site({"f%02d.bin" % n: 200000 for n in range(20)}) as s:
        s.server.last = 7
        run = s.download("--set", "transfer.attempts=1",
                         "--set", "transfer.connections=2")
        s.expect_published()
        expect(len(s.locations()) >= 2, "not located again")
        again = [r.path for r in s.server.asked("GET") if "sig-2" in r.query]
        expect(len(again) <= 14, "%d files were fetched after it" % len(again))
        expect(run.json["bytes_received"] <= s.content.total + SLOT,
               run.json["bytes_received"])
        expect(run.json["attempts"][-2]["error"]["detail"] == "EXPIRED",
               run.json["attempts"][-2])


@check
def signature_that_never_holds():
    """Located again so often, and then no more."""
    with signed_site({"a.bin": 1000}) as s:
        s.server.good = "none"
        run = s.download(status=22)
        expect("403" in error_of(run)["text"], error_of(run))
        expect(len(s.locations()) <= 8, "located %d times" % len(s.locations()))


@check
def azurite_signature_that_is_over():
    """Signatures of the first manifest are over; those of the second hold."""
    with Site(storage="azurite") as s:
        s.without("dp01", "dp02")
        s.world.cloud.publish(PACKAGE, s.world.manifest(seconds=-60))
        fresh = s.path("fresh.xml")
        with open(fresh, "w") as out:
            out.write(s.world.manifest())
        s.world.cloud.script("on manifest\nskip 1\nbody %s\n" % fresh)
        s.download()
        s.expect_published()
        expect(len(s.locations()) >= 2, "not located again")


@check
def location_that_is_over():
    """The service refuses an `et` of the past: located again, then another way."""
    with Site() as s:
        s.without("dp01", "dp02")
        old = replies.cloud_url(labs.SERVICE, s.world.cloud.port, PACKAGE,
                                end="2026-01-15T10:00:01")
        s.world.locate(old)
        fresh = s.path("fresh.xml")
        with open(fresh, "w") as out:
            out.write(replies.location_reply([labs.World._record(s.world.cloud_url)]))
        s.world.mp.script("on location\nskip 1\nbody %s\n" % fresh)
        s.download()
        s.expect_published()


# -- the ladder of virtual directories ----------------------------------------------------------

@check
def ladder_nocert():
    with Site() as s:
        part = s.lab.dp_nginx(s.path("dp01"), vdirs={"": 403, "NOCERT_": "open"},
                              tls=s.lab.ca.server(labs.HOSTS[2]))
        s.world.locate("https://dp02.example.net:%d/SMS_DP_SMSPKG$/%s"
                       % (part.port, PACKAGE))
        s.download()
        log = web.access_log(part)
        expect(any(r["status"] == 403 for r in log), "the URL itself was not tried")
        expect(all("NOCERT_" in r["uri"] for r in gets(log)), "not from NOCERT_")
        s.forget()
        s.download()
        again = web.access_log(part)[len(log):]
        expect(all("NOCERT_" in r["uri"] for r in again), "the rung was forgotten")


@check
def ladder_token():
    with Site() as s:
        tls = s.lab.ca.server(labs.HOSTS[2])
        part = s.lab.dp_nginx(s.path("dp01"), vdirs={
            "": 403, "NOCERT_": 401, "CCMTOKENAUTH_": "token"}, token=TOKEN, tls=tls)
        s.world.locate("https://dp02.example.net:%d/SMS_DP_SMSPKG$/%s"
                       % (part.port, PACKAGE))
        s.download()
        log = web.access_log(part)
        for r in log:
            same("CCMTOKENAUTH_" in r["uri"], TOKEN in r["authorization"],
                 "token only on its rung: " + r["uri"])
        s.forget()
        s.download()
        again = web.access_log(part)[len(log):]
        expect(again and all("CCMTOKENAUTH_" in r["uri"] for r in again),
               "the rung was forgotten")


@check
def ladder_token_never_over_http():
    with Site() as s:
        part = s.lab.dp_nginx(s.path("dp01"), vdirs={"": 401, "CCMTOKENAUTH_": "token"},
                              token=TOKEN)
        s.world.locate("http://dp01.example.net:%d/SMS_DP_SMSPKG$/%s"
                       % (part.port, PACKAGE))
        run = s.download(status=22)
        expect(all(TOKEN not in r["authorization"] for r in web.access_log(part)),
               "the token went over http")
        expect("401" in error_of(run)["text"], error_of(run))


@check
def ladder_client_certificate():
    with Site() as s:
        client = s.lab.ca.client("client01")
        os.chmod(client.key, 0o600)
        part = s.lab.dp_nginx(s.path("dp01"), vdirs={"": "cert"},
                              tls=s.lab.ca.server(labs.HOSTS[2]),
                              client_ca=both(s.lab))
        s.world.locate("https://dp02.example.net:%d/SMS_DP_SMSPKG$/%s"
                       % (part.port, PACKAGE))
        s.download(status=22)
        s.conf(client__certificate=client.chain, client__key=client.key)
        s.download()
        s.expect_published()


def both(lab):
    path = lab.path("both.pem")
    with open(path, "w") as out:
        for name in (lab.ca.root, lab.ca.intermediate):
            with open(name) as stream:
                out.write(stream.read())
    return path


@check
def ladder_all_rungs_refuse():
    with Site() as s:
        part = s.lab.dp_nginx(s.path("dp01"), vdirs={"": 403, "NOCERT_": 403,
                                               "CCMTOKENAUTH_": 403},
                              tls=s.lab.ca.server(labs.HOSTS[2]))
        s.world.locate("https://dp02.example.net:%d/SMS_DP_SMSPKG$/%s"
                       % (part.port, PACKAGE))
        run = s.download(status=22)
        expect("403" in error_of(run)["text"], error_of(run))


@check
def webdav_role_installed():
    """405 to PROPFIND: the error names the cause that administrators meet."""
    with Small() as s:
        part = s.lab.fault(None, labs.fault.Rule("status", method="PROPFIND", status=405))
        s.locate(s.share(part))
        s.policy()
        run = s.download(status=22)
        expect("405" in run.err and "WebDAV" in run.err, run.err)


# -- tampering ---------------------------------------------------------------------------------------

@check
def tampered_everywhere():
    with Site() as s:
        s.tamper("setup.exe", "dp01", "dp02", "store")
        run = s.download(status=23)
        same((error_of(run)["code"], error_of(run)["exit"]), ("HASH", 23))
        expect({a[2] for a in attempts_of(run)} == {"HASH"}, attempts_of(run))
        same({a[0] for a in attempts_of(run)}, {
            "dp01.example.net", "dp02.example.net", "wallacefalls.contoso.com"})
        same((run.json["result"], run.json["path"]), ("failed", None))
        expect("ciphertext" not in run.err, "copies on-premises were wrong, too")
        s.expect_nothing()
        expect("23" in run.err, run.err)


@check
def tampered_at_the_first_only():
    """What one source spoiled, the next one mends."""
    with Site() as s:
        s.tamper("setup.exe", "dp01")
        run = s.download()
        expect(attempts_of(run)[0][2] == "HASH", attempts_of(run))
        same(attempts_of(run)[-1][0], "dp02.example.net")
        s.expect_published()


@check
def tampered_length():
    with Site() as s:
        path = s.path("dp01", PACKAGE, "setup.exe")
        shutil.copy2(path, path + ".new")
        os.replace(path + ".new", path)
        with open(path, "ab") as out:
            out.write(b"x")
        run = s.download()
        same(attempts_of(run)[-1][0], "dp02.example.net")
        s.expect_published()


@check
def a_file_more_without_a_list():
    with Site() as s:
        for name in ("dp01", "dp02"):
            with open(s.path(name, PACKAGE, "stranger.exe"), "w") as out:
                out.write("x")
        run = s.download()
        same(attempts_of(run)[-1][1], "cloud")
        s.expect_published()


# -- interruption and resume ----------------------------------------------------------------------------

def slow_site():
    """A site whose first source is slow; .mark counts in its log."""
    s = Site(files=BIG, total=6 << 20)
    try:
        s.slow = s.lab.dp_nginx(s.path("dp01"), rate="1500k")
        s.url = "http://dp01.example.net:%d/SMS_DP_SMSPKG$/%s" % (s.slow.port, PACKAGE)
        s.world.locate(s.url)
    except BaseException:
        s.lab.stop()
        raise
    return s


def resumed(s, at_least):
    mark = len(web.access_log(s.slow))
    run = s.download()
    same(run.json["result"], "verified")
    expect(run.json["bytes_resumed"] >= at_least, "only %d bytes resumed"
           % run.json["bytes_resumed"])
    same(run.json["bytes_resumed"] + run.json["bytes_received"], s.content.total,
         "resumed + received")
    log = web.access_log(s.slow)[mark:]
    ranges = [r for r in gets(log) if r["range"]]
    expect(ranges and all(r["status"] == 206 for r in ranges), "no range was served")
    s.expect_published()
    expect(not s.partial(), "a partial folder is left behind")
    return run


def interrupt(s, number, kill=False):
    with Running(s) as agent:
        agent.until_bytes(2 << 20)
        children = agent.children()
        agent.signal(number)
        run = agent.finish()
        for pid in children:
            processes.wait_until(lambda: not is_alive(pid), "child %d ended" % pid,
                                 seconds=5)
        s.expect_nothing()
        expect(s.partial(), "no partial content is kept")
        return agent, run


@check
def interrupted_by_sigint():
    with slow_site() as s:
        agent, run = interrupt(s, signal.SIGINT)
        same(run.status, 130)
        expect(agent.took < 1.0, "it took %.2f s" % agent.took)
        same((run.json or {}).get("result"), "failed", "JSON: " + run.out)
        same((run.json["error"]["code"], run.json["error"]["exit"]),
             ("INTERRUPTED", 130))
        expect(run.json["bytes_received"] >= 2 << 20, run.json["bytes_received"])
        same(run.json["path"], None)
        resumed(s, 1 << 20)


@check
def interrupted_by_sigterm():
    with slow_site() as s:
        agent, run = interrupt(s, signal.SIGTERM)
        same(run.status, 143)
        expect(agent.took < 1.0, "it took %.2f s" % agent.took)
        same(run.json["error"]["exit"], 143)
        resumed(s, 1 << 20)


@check
def killed():
    """Neither lock nor child nor half a file is in the way afterwards."""
    with slow_site() as s:
        _, run = interrupt(s, signal.SIGKILL)
        same(run.status, -9)
        resumed(s, 1)


@check
def interrupted_again_and_again():
    with slow_site() as s:
        last = 0
        for at in (1, 2, 3):
            with Running(s) as agent:
                told = agent.until_bytes(at << 20)
                expect(told["bytes_done"] >= last, "bytes were lost")
                agent.signal(signal.SIGINT)
                last = (at - 1) << 20
                same(agent.finish().status, 130)
        resumed(s, 2 << 20)


@check
def interrupted_with_to():
    with slow_site() as s:
        with Running(s, "--to", s.path("out")) as agent:
            agent.until_bytes(2 << 20)
            agent.signal(signal.SIGINT)
            same(agent.finish().status, 130)
        left = contents.files(s.path("out")) if os.path.isdir(s.path("out")) else []
        expect(not set(left) & set(s.content.files), "final names:", left)
        run = s.download("--to", s.path("out"))
        same(contents.files(s.path("out")), s.content.files)
        expect(run.json["bytes_resumed"] > 0, "nothing resumed")


@check
def interrupted_while_locating():
    with Small() as s:
        s.mp.script("on location\ndelay_ms 20000\n")
        s.policy()
        with Running(s) as agent:
            agent.until(lambda p: p.get("step") == "locate")
            agent.signal(signal.SIGINT)
            run = agent.finish()
        same(run.status, 130)
        expect(agent.took < 1.0, "it took %.2f s" % agent.took)
        expect(run.json and run.json["error"]["exit"] == 130, run.out)


@check
def interrupted_while_a_server_is_silent():
    with Small() as s:
        part = s.lab.fault(None, "silence")
        s.locate(s.share(part))
        s.policy()
        with Running(s) as agent:
            agent.until(lambda p: p.get("step") == "transfer")
            agent.signal(signal.SIGTERM)
            run = agent.finish()
        same(run.status, 143)
        expect(agent.took < 1.0, "it took %.2f s" % agent.took)


@check
def kept_bytes_that_are_false():
    """A bit of the partial file flips between two runs: not published, mended."""
    with slow_site() as s:
        interrupt(s, signal.SIGINT)
        victim = max((os.path.join(b, n) for b, _, names in os.walk(s.partial())
                      for n in names), key=os.path.getsize)
        contents.tamper(victim, 1000)
        run = s.download()
        same(run.json["result"], "verified")
        s.expect_published()


@check
def changed_on_the_server_between_two_runs():
    with slow_site() as s:
        interrupt(s, signal.SIGINT)
        s.tamper("big.bin", "dp01")         # another inode and ETag, bad bytes
        os.utime(s.path("dp01", PACKAGE, "big.bin"))
        run = s.download(status=23)
        s.expect_nothing()
        expect(run.json["error"]["code"] == "HASH", run.json["error"])


@check
def the_rest_from_another_source():
    with slow_site() as s:
        interrupt(s, signal.SIGINT)
        s.lab.parts.stop(s.slow)
        s.world.locate(s.url, s.world.dp2_url)
        run = s.download("--set", "transfer.attempts=1")
        same(attempts_of(run)[-1][0], "dp02.example.net")
        s.expect_published()
        expect(run.json["bytes_resumed"] > 1 << 20, run.json["bytes_resumed"])


@check
def server_dies_in_mid_transfer():
    with slow_site() as s:
        s.world.locate(s.url, s.world.dp2_url)
        with Running(s, "--set", "transfer.attempts=1") as agent:
            agent.until_bytes(2 << 20)
            s.lab.parts.stop(s.slow)
            run = agent.finish()
        same(run.status, 0, run.err[-1000:])
        s.expect_published()
        served = bytes_served(web.access_log(s.world.dp2))
        expect(served < s.content.total, "all of it was fetched again")


@check
def net_process_killed_in_mid_transfer():
    with slow_site() as s:
        s.world.locate(s.url, s.world.dp2_url)
        with Running(s) as agent:
            agent.until_bytes(2 << 20)
            children = agent.children()
            expect(children, "no child process")
            os.kill(children[0], signal.SIGKILL)
            run = agent.finish()
        expect(run.status in (0, 1), run.status, run.err[-800:])
        if run.status == 0:
            s.expect_published()
        else:
            s.expect_nothing()
            expect(run.json["error"]["text"], run.out)
            resumed(s, 1)


@check
def two_agents_on_one_content():
    with slow_site() as s:
        with Running(s) as agent:
            agent.until_bytes(1 << 20)
            other = s.run("--download", PACKAGE, "--json")
            wants(other, 40)
            same(error_of(other)["code"], "NOT_NOW")
            kept = s.run("--cache", "trim")
            wants(kept, 0)
            removed = s.run("--cache", "remove", PACKAGE)
            wants(removed, 40)
            run = agent.finish()
        same(run.status, 0, run.err[-500:])
        s.expect_published()


@check
def two_agents_on_two_contents():
    with slow_site() as s:
        other = s.lab.content("ABC00077", {"x": 1000}, under="dp01")
        s.lab.policy("ABC00077", 1, other)
        s.world.mp.publish("ABC00077", replies.location_reply([replies.record(
            s.url.replace(PACKAGE, "ABC00077"))]))
        with Running(s) as agent:
            agent.until_bytes(1 << 20)
            wants(s.run("--download", "ABC00077"), 0)
            same(agent.finish().status, 0)
        s.expect_published()
        expect(s.published("ABC00077.1"), "the other one is not published")


# -- where and as whom ------------------------------------------------------------------------------------

@check
def as_an_ordinary_user():
    if os.geteuid() != 0:
        skip("we are an ordinary user already")
    with Small(files={"a": 100000, "b/c": 5}) as s:
        s.locate(s.share(s.lab.dp_nginx()))
        s.policy()
        os.chmod(s.lab.folder, 0o755)
        for name in ("cache", "state", "log", "policy.d", "agent.conf"):
            os.chown(s.path(name), 65534, 65534)
        for name in os.listdir(s.path("policy.d")):
            os.chown(s.path("policy.d", name), 65534, 65534)
        done = subprocess.run(
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
             agentconf.AGENT, "--download", PACKAGE, "--json", "--config", s.lab.conf],
            stdin=subprocess.DEVNULL, capture_output=True, text=True)
        same(done.returncode, 0, done.stderr[-800:])
        s.expect_published()
        same(os.stat(s.published()).st_uid, 65534, "owner")


@check
def without_standard_streams():
    with Small(files={"a": 100000}) as s:
        s.locate(s.share(s.lab.dp_nginx()))
        s.policy()
        subprocess.run(["sh", "-c", "exec \"$@\" <&- >&- 2>&-", "sh", agentconf.AGENT,
                        "--download", PACKAGE, "--json", "--config", s.lab.conf])
        s.expect_published()


@check
def addresses_instead_of_names():
    with Small(files={"a": 100000}) as s:
        for address, how in (("[::1]", ("::1",)), ("127.0.0.1", ("127.0.0.1",))):
            try:
                part = s.lab.dp_nginx(addresses=how)
            except processes.LabError as error:
                skip("no %s here: %s" % (address, str(error)[:60]))
            s.locate(s.share(part, host=address))
            s.policy()
            s.download()
            s.expect_published()
            s.forget()
        mp = s.lab.mp(address="::1")
        mp.publish(PACKAGE, replies.location_reply([replies.record(
            s.share(part, host=address))]))
        s.conf(["http://[::1]:%d" % mp.port])
        s.download()


@check
def a_name_with_both_kinds_of_address():
    """Whichever of them answers is used, and soon."""
    with Small(files={"a": 100000}) as s:
        s.names(("dp01.example.net", "AAAA", "::1"), ("dp01.example.net", "A", "127.0.0.1"))
        s.policy()
        for address in ("::1", "127.0.0.1"):
            try:
                part = s.lab.dp_nginx(addresses=(address,))
            except processes.LabError as error:
                skip("no %s here: %s" % (address, str(error)[:60]))
            s.locate(s.share(part, host="dp01.example.net"))
            run = s.download()
            expect(run.json["duration_ms"] < 3000, run.json["duration_ms"])
            s.forget()


@check
def the_newest_version_of_policy():
    with Small(files={"a": 1000}) as s:
        s.locate(s.share(s.lab.dp_nginx()))
        for version in (3, 12, 7):
            s.lab.policy(PACKAGE, version, s.content, file="v%d" % version)
        same(s.download().json["version"], 12)
        expect(s.published(PACKAGE + ".12"), os.listdir(s.path("cache", "content")))


@check
def memory_of_both_processes():
    if is_sanitized():
        skip("sanitizers take memory of their own")
    with Small(files={**{"d%02d/%04d" % (n % 50, n): 300 for n in range(5000)},
                      "big": 64 << 20}) as s:
        s.locate(s.share(s.lab.dp_nginx()))
        s.policy()
        peaks = {}

        def look(agent):
            for pid in [agent.pid] + agent.children():
                with contextlib.suppress(OSError), open("/proc/%d/status" % pid) as lines:
                    for line in lines:
                        if line.startswith("VmHWM"):
                            peaks[pid] = int(line.split()[1])
        with Running(s) as agent:
            agent.until(lambda p: look(agent) or p["bytes_done"] == p["bytes_total"] > 0)
            same(agent.finish().status, 0)
        expect(len(peaks) == 2 and sum(peaks.values()) < 64 << 10, "KiB:", peaks)


@check
def interrupted_while_hashing_what_is_cached():
    with Small(files={"a": 10}) as s:
        with open(s.path("content", PACKAGE, "a"), "r+b") as out:
            out.truncate(512 << 20)
        s.content = contents.Content(s.path("content", PACKAGE))
        s.locate(s.share(s.lab.dp_nginx()))
        s.policy()
        s.download()
        with Running(s) as agent:
            agent.until(lambda p: p["step"] == "check cache")
            agent.signal(signal.SIGINT)
            run = agent.finish()
        same(run.status, 130)
        expect(agent.took < 1, "it took %.2f s" % agent.took)
        s.expect_published()
        process = s.run("--cache", "verify", popen=True)
        processes.wait_until(lambda: any("/a" in os.readlink("/proc/%d/fd/%s" % (
            process.pid, n)) for n in os.listdir("/proc/%d/fd" % process.pid)),
            "the file is open", process)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.communicate()
        same(process.returncode, 143)
        expect(time.monotonic() - began < 1, "--cache verify took too long")


# -- progress --------------------------------------------------------------------------------------------

@check
def progress_words():
    with Site() as s:
        plain = s.run("--download", PACKAGE, "--progress", "plain")
        wants(plain, 0)
        expect("\r" not in plain.err and "\x1b" not in plain.err, repr(plain.err))
        expect("100%" in plain.err, plain.err)
        s.forget()
        none = s.run("--download", PACKAGE, "--progress", "none")
        wants(none, 0)
        expect("%" not in none.err, none.err)
        s.forget()
        told = s.run("--download", PACKAGE, "--progress", "json")
        wants(told, 0)
        lines = [json.loads(x) for x in told.err.splitlines() if x.startswith("{")]
        expect(lines and lines[-1]["bytes_done"] == s.content.total, lines[-1:])
        s.forget()
        auto = s.run("--download", PACKAGE)
        expect("\x1b" not in auto.err + auto.out, "escapes without a terminal")


@check
def the_bar_on_a_terminal():
    with Site() as s:
        for no_color in (False, True):
            text, status = harness.on_terminal(
                s.lab, ["--download", PACKAGE], "1" if no_color else None)
            same(status, 0)
            expect(s.published().encode() in text, "no path")
            expect(b"\r\x1b[K" in text, "no bar")
            same(bool(re.search(rb"\x1b\[[0-9;]*m", text)), not no_color, "colour")
            s.forget()


if __name__ == "__main__":
    sys.exit(main())
