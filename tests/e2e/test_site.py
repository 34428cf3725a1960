#!/usr/bin/env python3
"""The site as the source of policy: registration, signed messages, bodies, reports."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from harness import *                                               # noqa: E402,F403
import policy as policies                                           # noqa: E402

SITE = {"policy.source": "mp"}
OTHER = "ABC00043"


class Mp(Small):
    """A site whose management point deploys; [policy] local is policy.d. What it saw
    must be as on record, but where a check says what it may complain of."""

    allowed = ()

    def __init__(self, **settings):
        super().__init__(settings={**SITE, **settings})
        self.settings["policy.local"] = self.path("policy.d")
        self.conf()

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                for r in self.mp.requests():
                    same([v for v in r["violations"]
                          if not any(words in v for words in self.allowed)], [],
                         "violations at " + r["path"])
        finally:
            self.lab.stop()

    def once(self, *args, status=0, **how):
        run = self.run("--once", "--json", *args, **how)
        wants(run, status)
        expect(run.json is not None, "no JSON on stdout:", run.out[:500])
        return run

    def serve(self):
        """A distribution point that has the content, and the local policy that names
        its hash: by itself it asks for nothing."""
        self.dp = self.lab.dp_nginx()
        self.locate(self.share(self.dp))
        self.policy(purpose="available")

    def asked(self, *endpoints):
        return [r for r in self.mp.requests()
                if r.get("msg", {}).get("TargetEndpoint") in endpoints]

    def bodies(self):
        return [r for r in self.mp.requests() if r["path"] == "/SMS_MP/.sms_pol"]

    def bundle(self):
        with open(self.path("state", "policy.bundle")) as stream:
            return stream.read()

    def smsid(self):
        with open(self.path("state", "smsid")) as stream:
            return stream.read().split()[0]


def expect_proper(*mps):
    for mp in mps:
        for r in mp.requests():
            same(r["violations"], [], "violations at " + r["path"])


def names(run):
    return sorted("%s.%d" % (j["content"], j["version"]) for j in run.json["jobs"])


def codes(run):
    return [(j["error"] or {}).get("code") for j in run.json["jobs"]]


# -- registration --------------------------------------------------------------

@check
def registers_once_and_stays():
    with Mp() as s:
        s.mp.deploy(PACKAGE, VERSION)
        s.once(status=4)
        first = s.smsid()
        same(s.mp.clients(), [first], "clients")
        for name in ("identity.pem", "smsid"):
            same(os.stat(s.path("state", name)).st_mode & 0o777, 0o600, name)
        s.once(status=4)
        same(s.smsid(), first)
        same(len(s.asked("MP_ClientRegistration")), 1, "registrations")
        same(len(s.asked("MP_PolicyManager")), 2, "assignments")
        same({r["signed_by"] for r in s.asked("MP_PolicyManager")}, {first})


@check
def site_that_is_not_ready_at_once():
    """the first signed message after registration comes too early"""
    with Mp() as s:
        s.mp.site("settle 1\n")
        s.mp.deploy(PACKAGE, VERSION)
        s.once(status=4)
        asked = s.asked("MP_PolicyManager")
        same(len(asked), 2, "assignments")
        expect(asked[1]["time"] - asked[0]["time"] > 3.9, "not waited")
        same(len(s.asked("MP_ClientRegistration")), 1, "registrations")


@check
def site_that_never_takes_the_client():
    """it ends, with its own words, after a bounded number of tries"""
    with Mp() as s:
        s.mp.site("settle 1000\n")
        run = s.once(status=10)
        same(error_of(run)["detail"], "MP_AUTH")
        expect("is it approved" in error_of(run)["text"], run.out)
        same(len(s.asked("MP_ClientRegistration")), 1, "registrations")
        same(len(s.asked("MP_PolicyManager")), 6, "assignments")


@check
def site_that_forgot_the_client():
    with Mp() as s:
        s.mp.deploy(PACKAGE, VERSION)
        s.once(status=4)
        shutil.rmtree(os.path.join(s.mp.folder, "clients"))
        s.allowed = ("unknown client",)
        run = s.once("--verbose", status=4)
        expect("registering anew" in run.err, run.err)
        same(len(s.asked("MP_ClientRegistration")), 2, "registrations")
        same(s.mp.clients(), [s.smsid()])
        same(names(run), [NAME])


@check
def lost_key_registers_anew():
    with Mp() as s:
        s.mp.deploy(PACKAGE, VERSION)
        s.once(status=4)
        first = s.smsid()
        os.unlink(s.path("state", "identity.pem"))
        s.once(status=4)
        expect(s.smsid() != first, "the old id with a new key")
        same(len(s.asked("MP_ClientRegistration")), 2, "registrations")


@check
def key_of_another_is_refused():
    """an id that goes with another key: nothing is told, and the client registers"""
    with Mp() as s:
        s.mp.deploy(PACKAGE, VERSION)
        s.once(status=4)
        first = s.smsid()
        os.unlink(s.path("state", "identity.pem"))
        s.once(status=4)
        path = s.path("state", "smsid")
        with open(path) as stream:
            mark = stream.read().split()[1]
        with open(path, "w") as stream:     # the first id, the second key
            stream.write("%s %s\n" % (first, mark))
        before = len(s.asked("MP_PolicyManager"))
        s.allowed = ("is not that of the certificate",)
        s.once(status=4)
        asked = s.asked("MP_PolicyManager")[before:]
        same(["assignments" in r for r in asked], [False, True])
        same([r.get("signed_by") for r in asked][0], None)
        same(asked[0]["refused"], "PublicKey is not that of the certificate")
        expect(s.smsid() != first, "still the id of the other key")


@check
def broken_key_file_is_set_aside():
    with Mp() as s:
        s.mp.deploy(PACKAGE, VERSION)
        s.once(status=4)
        with open(s.path("state", "identity.pem"), "r+") as stream:
            stream.truncate(100)
        run = s.once(status=4)
        expect("set aside" in run.err, run.err)
        same(len([n for n in os.listdir(s.path("state"))
                  if n.startswith("identity.pem.broken-")]), 1)
        same(len(s.asked("MP_ClientRegistration")), 2, "registrations")


@check
def two_at_once_make_one_identity():
    with Mp() as s:
        s.mp.deploy(PACKAGE, VERSION)
        both = [s.run("--once", "--json", popen=True) for _ in range(2)]
        for process in both:
            out, err = process.communicate(timeout=60)
            expect(process.returncode in (4, 40), process.returncode, err)
        s.once(status=4)
        same(len(s.mp.clients()), 1, "clients")


@check
def without_site_code():
    with Mp() as s:
        s.conf(site__code=None)
        run = s.once(status=3)
        expect("[site] code" in error_of(run)["text"], run.out)
        same(s.mp.requests(), [])


# -- policy --------------------------------------------------------------------

@check
def no_hash_ends_as_no_hash():
    with Mp() as s:
        s.mp.deploy(PACKAGE, VERSION, hash="0A1B2C")
        run = s.once(status=4)
        same((names(run), codes(run)), ([NAME], ["NO_HASH"]))
        expect("site_hash = 0A1B2C" in s.bundle(), s.bundle())
        s.expect_nothing()


@check
def local_hash_and_policy_of_the_site():
    """the site says when, the local file says what"""
    with Mp() as s:
        s.serve()
        s.once()
        s.expect_nothing()
        s.mp.deploy(PACKAGE, VERSION)
        s.once()
        s.expect_published()


@check
def available_only_is_not_fetched():
    with Mp() as s:
        s.serve()
        s.mp.deploy(PACKAGE, VERSION, mandatory=False)
        s.once()
        s.expect_nothing()
        expect("purpose = available" in s.bundle(), s.bundle())


@check
def what_is_not_yet_active_waits():
    with Mp() as s:
        s.serve()
        s.mp.deploy(PACKAGE, VERSION, active="20990101000000.000000+***")
        s.once()
        s.expect_nothing()
        expect("available = 2099-01-01T00:00:00Z" in s.bundle(), s.bundle())


@check
def secret_bodies():
    """sealed in every way, with the proof of who asks, compressed or not"""
    with Mp() as s:
        flags = policies.SECRET | policies.REQUIRESAUTH
        count = 0
        for envelope in ("pkcs1-3des", "pkcs1-aes", "oaep-3des", "oaep-aes"):
            for more in (0, policies.COMPRESSED):
                count += 1
                s.mp.site("envelope %s\n" % envelope)
                s.mp.deploy(PACKAGE, count, flags=flags | more)
                s.once(status=4)
                expect("version = %d\n" % count in s.bundle(), envelope, more,
                       s.bundle())
        same({r["signed_by"] for r in s.bodies()}, {s.smsid()})


@check
def secret_bodies_are_in_no_log():
    with Mp() as s:
        s.mp.deploy(PACKAGE, VERSION, flags=policies.SECRET,
                    PRG_CommandLine="canary-9d1e")
        run = s.once("--verbose", status=4)
        expect("canary-9d1e" not in run.err + run.out, "in the output")
        for folder in ("log", "state"):
            for name in os.listdir(s.path(folder)):
                with open(s.path(folder, name), "rb") as stream:
                    expect(b"canary-9d1e" not in stream.read(), folder, name)


@check
def every_form_of_a_body():
    with Mp() as s:
        count = 0
        for site in ("", "no_mark\n", "url hash\n", "clear\n", "compressed text\n",
                     "compressed text\nno_mark\n"):
            for flags in (0, policies.COMPRESSED, policies.SECRET):
                count += 1
                s.mp.site(site)
                s.mp.deploy(PACKAGE, count, flags=flags)
                s.once(status=4)
                expect("version = %d\n" % count in s.bundle(), repr(site), flags)


@check
def plain_messages_are_signed_too():
    with Mp() as s:
        s.mp.deploy(PACKAGE, VERSION)
        run = s.once("--set", "site.compression=no", status=4)
        same(names(run), [NAME])
        same({r["compressed"] for r in s.asked("MP_PolicyManager")}, {False})
        same(s.asked("MP_PolicyManager")[0]["signed_by"], s.smsid())


@check
def withdrawn_and_changed():
    with Mp() as s:
        one = s.mp.deploy(PACKAGE, VERSION)
        s.mp.deploy(OTHER, 1)
        same(names(s.once(status=4)), [NAME, OTHER + ".1"])
        s.mp.withdraw(one)
        s.mp.deploy(OTHER, 2)
        same(names(s.once(status=4)), [OTHER + ".2"])


@check
def others_are_left_out():
    """no files, no package id, other classes, a body that is none: the rest counts"""
    with Mp() as s:
        s.mp.deploy(PACKAGE, VERSION)
        s.mp.deploy("ABC00050", 1, has_files=False)
        s.mp.deploy("ABC00051", 0)
        s.mp.deploy("ABC00052", 1, advertisement="../../x", policy_id="odd")
        policies.publish(s.mp.folder, "task", policies.document(
            policies.instance("CCM_TaskSequence", PKG_PackageID="ABC00053")))
        policies.publish(s.mp.folder, "broken", "<Policy><instance>")
        run = s.once("--verbose", status=4)
        same(names(run), [NAME])
        same(s.bundle().count("; file "), 1, s.bundle())
        for words in ("has no files", "no usable PKG_SourceVersion",
                      "no advertisement id", "policy broken is left out"):
            expect(words in run.err, words, run.err)


@check
def name_that_would_be_more_than_a_name():
    with Mp() as s:
        s.mp.deploy(PACKAGE, VERSION,
                    name="a\n[content]\nhash = sha256:%s ; x" % ("0" * 64))
        same(codes(s.once(status=4)), ["NO_HASH"])


@check
def many_deployments():
    with Mp() as s:
        for n in range(300):
            s.mp.deploy("ABC0%04X" % n, 1, advertisement="ABC2%04X" % n,
                        flags=policies.SECRET if n % 3 == 0 else 0)
        run = s.once(status=4)
        same(len(run.json["jobs"]), 300, "jobs")


# -- what a liar could try -----------------------------------------------------

def reply_with(s, location):
    path = os.path.join(s.mp.folder, "reply.xml")
    with open(path, "w") as stream:
        stream.write('<ReplyAssignments><PolicyAssignment><Policy PolicyID="x" '
                     'PolicyVersion="1.00" PolicyFlags="6"><PolicyLocation>'
                     '<![CDATA[%s]]></PolicyLocation></Policy></PolicyAssignment>'
                     '</ReplyAssignments>' % location)
    s.mp.script("on assignments\nbody reply.xml\n")


@check
def body_at_another_host():
    """a location that leads elsewhere is refused; nobody there hears of us"""
    with Mp() as s:
        elsewhere = s.lab.mp()
        reply_with(s, "http://127.0.0.2:%d/SMS_MP/.sms_pol?x.1_00" % elsewhere.port)
        run = s.once("--verbose")
        expect("left out" in run.err, run.err)
        same((elsewhere.requests(), s.bodies()), ([], []))


@check
def body_that_redirects():
    with Mp() as s:
        s.mp.deploy(PACKAGE, VERSION, flags=policies.REQUIRESAUTH)
        s.once(status=4)
        before = s.bundle()
        elsewhere = s.lab.mp()
        s.mp.script("on policy\nredirect http://127.0.0.1:%d/SMS_MP/.sms_pol?x.1\n"
                    % elsewhere.port)
        run = s.once(status=4)
        expect("sends us to" in run.err, run.err)
        same(elsewhere.requests(), [], "who hears our signed token")
        same(names(run), [NAME])
        same(s.bundle(), before, "the policy of before")


@check
def reply_that_is_none():
    with Mp() as s:
        s.mp.deploy(PACKAGE, VERSION)
        s.once(status=4)
        before = s.bundle()
        for words in ("html", "status 500", "status 403", "close", "cut 50"):
            s.mp.script("on assignments\n%s\n" % words)
            run = s.once(status=4)
            expect("policy is not fetched" in run.err, words, run.err)
            same(names(run), [NAME], words)
            same(s.bundle(), before, words)


@check
def registration_that_is_none():
    with Mp() as s:
        with open(os.path.join(s.mp.folder, "reply.xml"), "w") as stream:
            stream.write('<ClientRegistrationResponse SMSID="GUID:no; guid"/>')
        for words in ("html", "status 500", "body reply.xml", "empty"):
            s.mp.script("on registration\n%s\n" % words)
            run = s.once(status=10)
            expect("registration" in error_of(run)["text"] or
                   "register" in error_of(run)["text"], words, run.out)
            expect(not os.path.exists(s.path("state", "smsid")), words)


@check
def bodies_that_fail():
    """gone: left out; refused, or no answer: the policy of before"""
    with Mp() as s:
        s.mp.deploy(PACKAGE, VERSION)
        s.mp.deploy(OTHER, 1)
        s.once(status=4)
        before = s.bundle()
        for words in ("times 1\nstatus 403", "times 1\nstatus 500", "close", "cut 20"):
            s.mp.script("on policy\n%s\n" % words)
            run = s.once(status=4)
            expect("policy is not fetched" in run.err, words, run.err)
            expect("registering" not in run.err, words, run.err)
            same(s.bundle(), before, words)
        s.mp.script("on policy\ntimes 1\nstatus 404\n")
        same(len(names(s.once(status=4))), 1, "after 404")
        s.mp.script("")
        same(len(names(s.once(status=4))), 2, "again")


# -- management points ---------------------------------------------------------

@check
def management_point_away():
    """the policy of before counts, and content that is named is still fetched"""
    with Mp() as s:
        s.mp.deploy(PACKAGE, VERSION)
        s.once(status=4)
        before = s.bundle()
        s.serve()
        s.mp.script("on assignments policy registration\nclose\n")
        run = s.once(status=10)
        expect("management point" in error_of(run)["text"], run.out)
        s.expect_published()
        same(s.bundle(), before)


@check
def second_management_point():
    with Mp() as s:
        bad = s.lab.mp()
        bad.script("on any\nstatus 500\n")
        s.mp.deploy(PACKAGE, VERSION)
        s.conf(mps=["http://127.0.0.1:%d" % p for p in (bad.port, s.mp.port)])
        same(names(s.once(status=4)), [NAME])
        # the first one is well again, and does not know us: the second does
        bad.script("")
        shutil.rmtree(os.path.join(bad.folder, "clients"), ignore_errors=True)
        same(names(s.once(status=4)), [NAME])
        same((bad.clients(), len(s.asked("MP_ClientRegistration"))), ([], 1))


@check
def bodies_come_from_whoever_answered():
    """its bodies do not come: the next one is asked from the start"""
    with Mp() as s:
        second = s.lab.mp()
        for mp in (s.mp, second):
            mp.deploy(PACKAGE, VERSION)
            mp.deploy(OTHER, 1)
        s.conf(mps=["http://127.0.0.1:%d" % p for p in (second.port, s.mp.port)])
        s.once(status=4)
        shutil.copytree(os.path.join(second.folder, "clients"),
                        os.path.join(s.mp.folder, "clients"), dirs_exist_ok=True)
        second.script("on policy\nskip 1\nclose\n")
        run = s.once(status=4)
        same(names(run), [NAME, OTHER + ".1"])
        same(len(s.bodies()), 2, "bodies of the other one")


@check
def https_with_certificate():
    with Mp() as s:
        client = s.lab.ca.client("node7")
        mp = s.lab.mp(tls=s.lab.ca.server("127.0.0.1"), client_ca=s.lab.ca.root)
        mp.deploy(PACKAGE, VERSION, flags=policies.SECRET)
        s.conf(mps=["https://127.0.0.1:%d" % mp.port],
               client__certificate=client.chain, client__key=client.key)
        same(names(s.once(status=4)), [NAME])
        same({bool(r["client_certificate"]) for r in mp.requests()
              if r["method"] == "CCM_POST"}, {True})
        expect_proper(mp)


@check
def https_with_token_and_through_a_gateway():
    with Mp() as s:
        with open(os.open(s.path("token"), os.O_WRONLY | os.O_CREAT, 0o600),
                  "w") as stream:
            stream.write(TOKEN)
        mp = s.lab.mp(tls=s.lab.ca.server("127.0.0.1"), token=TOKEN)
        mp.deploy(PACKAGE, VERSION, flags=policies.SECRET)
        mp.deploy(OTHER, 1, flags=policies.INTRANETONLY)
        for base, found in (("", [NAME, OTHER + ".1"]),
                            ("/CCM_Proxy_MutualAuth/72057594037927941", [NAME])):
            s.conf(mps=["https://127.0.0.1:%d%s" % (mp.port, base)],
                   client__token_file=s.path("token"))
            same(names(s.once(status=4)), found, base)
        same({r["token_good"] for r in mp.requests()}, {True})
        expect_proper(mp)


# -- state messages ------------------------------------------------------------

@check
def state_messages_arrive_once():
    with Mp() as s:
        s.serve()
        s.mp.deploy(PACKAGE, VERSION)
        s.once()
        told = s.mp.state_messages()
        same({m["topic"] for m in told}, {NAME}, "topics")
        same({m["signed_by"] for m in told}, {s.smsid()}, "signed by")
        same(told[-1]["state"], "3", "arrived comes last")
        s.once()
        same(len(s.mp.state_messages()), len(told), "sent twice")


@check
def state_messages_wait_for_the_management_point():
    with Mp() as s:
        s.mp.deploy(PACKAGE, VERSION)
        s.mp.script("on relay\nstatus 500\n")
        for _ in range(2):
            run = s.once(status=4)
            expect("StateMessage" in run.err or "state" in run.err, run.err)
        s.mp.script("")
        before = len(s.asked("MP_RelayEndpoint"))
        s.once(status=4)
        asked = s.asked("MP_RelayEndpoint")[before:]
        expect(len(asked) >= 1, "nothing was kept")
        same({r["status"] for r in asked}, {200})
        s.once(status=4)
        same(len(s.asked("MP_RelayEndpoint")), before + len(asked), "sent again")


if __name__ == "__main__":
    sys.exit(main())
