"""Medians, ratios, and how they are shown."""

import json
import os
import statistics

GIB = 1 << 30
FIGURES = ("wall_s", "cpu_s", "user_s", "system_s", "switches", "requests",
           "connections", "wire_bytes")


def median(values):
    return statistics.median(values) if values else None


def world(about, found, skipped):
    """All of one world as plain data."""
    result = {"world": about.name, "title": about.title, "medium": about.medium,
              "bytes": about.bytes, "files": len(about.files),
              "bytes_there_before": about.resume, "clients": {}, "ratios": {},
              "skipped": skipped}
    for name, have in found.items():
        runs = have["runs"]
        result["clients"][name] = {
            "rounds": len(runs), "runs": runs, **(have.get("memory") or {}),
            **{f: median([run[f] for run in runs]) for f in FIGURES},
            "cpu_s_per_gib": median([run["cpu_s"] for run in runs])
            * GIB / about.bytes if runs else None}
    agent = found.get("agent")
    for name, have in found.items():
        if agent and agent["runs"] and name != "agent":
            # of each round, since what disturbs a round disturbs both
            result["ratios"][name] = {f: median([
                mine[f] / theirs[f]
                for mine, theirs in zip(agent["runs"], have["runs"]) if theirs[f]])
                for f in ("wall_s", "cpu_s")}
    return result


def best(result, figure, among=None):
    """(name, agent / that peer) of the peer with the lowest median; among: the only
    one that counts."""
    peers = [(c[figure], name) for name, c in result["clients"].items()
             if name != "agent" and c[figure] is not None and among in (None, name)]
    if not peers or not result["ratios"]:
        return None, None
    name = min(peers)[1]
    return name, result["ratios"][name][figure]


# -- text ------------------------------------------------------------------------

def _mib(name):
    return lambda c: "%.1f" % c[name] if c.get(name) is not None else "-"


COLUMNS = (("CPU s/GiB", 10, lambda c: "%.2f" % c["cpu_s_per_gib"]),
           ("CPU s", 8, lambda c: "%.3f" % c["cpu_s"]),
           ("wall s", 8, lambda c: "%.3f" % c["wall_s"]),
           ("PSS MiB", 8, _mib("pss_mib")),
           ("own MiB", 8, _mib("own_mib")),
           ("wire MB", 9, lambda c: "%.1f" % (c["wire_bytes"] / 1e6)),
           ("requests", 9, lambda c: "%d" % c["requests"]),
           ("conns", 6, lambda c: "%d" % c["connections"]),
           ("switches", 9, lambda c: "%d" % c["switches"]))


def text(result):
    """A table; the last two columns are agent / this client, median of rounds."""
    title = "\n" + result["title"]
    if "skipped_because" in result:
        return "%s\n  SKIPPED: %s" % (title, result["skipped_because"])
    if "clients" in result:
        return title + _table(result)
    return title + {"limit": _limit, "idle": _idle, "first-byte": _first_byte}[
        result["world"]](result)


def _table(result):
    rounds = {c["rounds"] for c in result["clients"].values()} or {0}
    most = max(rounds)
    lines = [" (medians of %d rounds)" % most,
             "  %-25s" % "" + "".join("%*s" % (w, n) for n, w, _ in COLUMNS)
             + "   agent/it: CPU  wall"]
    for name, client in result["clients"].items():
        if not client["rounds"]:
            continue
        ratio = result["ratios"].get(name)
        lines.append("  %-25s" % name + "".join(
            "%*s" % (w, show(client)) for _, w, show in COLUMNS) + (
                "%16.2f %5.2f" % (ratio["cpu_s"], ratio["wall_s"]) if ratio else "")
            + (" (of %d)" % client["rounds"] if client["rounds"] < most else ""))
    for name, why in result["skipped"].items():
        lines.append("  %-25s SKIPPED: %s" % (name, why))
    return "\n".join(lines)


PARTS = ("receive", "decrypt", "hash", "copy", "write_disk", "write_tmpfs", "sum_disk",
         "sum_tmpfs")


def _limit(result):
    return "".join("\n  %-12s %6.3f" % (part, result[part]) for part in PARTS)


def _idle(result):
    return "".join("\n  %-12s %d process%s, PSS %6d KiB, own %6d KiB" % (
        name, result[name]["processes"], "es" if result[name]["processes"] > 1 else "",
        result[name]["pss_kib"], result[name]["own_kib"])
        for name in ("service", "yardstick")) + "\n  ratio of PSS %.2f, own %.2f" % (
            result["ratio"], result["ratio_own"])


def _first_byte(result):
    return "\n  %.3f s; %d round trips of %d ms are %.3f s; ratio %.2f" % (
        result["median_s"], result["round_trips"], result["round_trip_ms"],
        result["floor_s"], result["ratio"])


# -- the aims ----------------------------------------------------------------------

def _against_best(world, figure, among=None):
    """A row's value: the agent / the best peer, and who that is."""
    def value(results):
        result = results.get(world)
        if not result or "clients" not in result:
            return None
        name, ratio = best(result, figure, among)
        return ratio, name
    return value


def _floor(world, medium):
    def value(results):
        result, floor = results.get(world), results.get("limit")
        if not result or not floor or "agent" not in result.get("clients", ()):
            return None
        mine = result["clients"]["agent"]["cpu_s_per_gib"]
        return mine and (mine / floor["sum_" + medium], "limit")
    return value


def _ratio(world):
    def value(results):
        result = results.get(world)
        return result and "ratio" in result and (result["ratio"], "") or None
    return value


def _peak(results):
    peaks = [(r["clients"]["agent"]["pss_mib"], r["world"]) for r in results.values()
             if r.get("clients", {}).get("agent", {}).get("pss_mib") is not None]
    return max(peaks) if peaks else None


AIMS = [
    *[("%s GiB, %s: CPU, both processes / best peer" % (size, medium), 0.98,
       _against_best("%sg-%s" % (size, medium), "cpu_s"))
      for size in "14" for medium in ("tmpfs", "disk")],
    *[("%s GiB, %s: wall / best peer" % (size, medium), 0.75,
       _against_best("%sg-%s" % (size, medium), "wall_s"))
      for size in "14" for medium in ("tmpfs", "disk")],
    *[("%s GiB, %s: CPU / the floor" % (size, medium), 1.25,
       _floor("%sg-%s" % (size, medium), medium))
      for size in "14" for medium in ("tmpfs", "disk")],
    *[("10,000 small files, %s: %s / best peer" % (medium, word), aim,
       _against_best("small-" + medium, figure))
      for medium in ("tmpfs", "disk")
      for word, figure, aim in (("wall", "wall_s", 0.42), ("CPU", "cpu_s", 0.5))],
    *[("resume, %s: wall / best of aria2 and curl" % medium, 0.85,
       _against_best("resume-" + medium, "wall_s")) for medium in ("tmpfs", "disk")],
    ("8 MB/s a connection, 150 ms: wall / aria2 -x8 -s8", 1.0,
     _against_best("cap-150ms", "wall_s", "aria2, 8 connections")),
    ("first byte, 30 ms, cloud fallback / round trips", 1.2, _ratio("first-byte")),
    ("peak memory of any work, both processes, PSS MiB", 24, _peak),
    ("idle memory, PSS / the same libraries after a request", 1.5, _ratio("idle")),
]


def aims(results):
    """[(words, aim, measured or None, what it was measured against), ...]"""
    by_name = {r["world"]: r for r in results}
    rows = []
    for words, aim, value in AIMS:
        found = value(by_name) or (None, "")
        rows.append((words, aim, *found))
    return rows


def summary(results, is_all):
    """Aim and measured; is_all: those not measured, too."""
    lines = ["", "aims (agent / the other, medians)",
             "  %-54s %6s %9s" % ("", "aim", "measured")]
    for words, aim, measured, other in aims(results):
        if measured is not None:
            lines.append("  %-54s %6.4g %9.2f  %-4s %s" % (
                words, aim, measured, "met" if measured <= aim else "MISS", other))
        elif is_all:
            lines.append("  %-54s %6.4g %9s" % (words, aim, "-"))
    return "\n".join(lines) if len(lines) > 3 else ""


# -- the page ----------------------------------------------------------------------

CELLS = (("CPU s", lambda c: "%.2f" % c["cpu_s"]),
         ("CPU s/GiB", lambda c: "%.2f" % c["cpu_s_per_gib"]),
         ("wall s", lambda c: "%.2f" % c["wall_s"]),
         ("PSS MiB", _mib("pss_mib")), ("own MiB", _mib("own_mib")),
         ("wire MB", lambda c: "%.1f" % (c["wire_bytes"] / 1e6)),
         ("requests / conns", lambda c: "%d / %d" % (c["requests"], c["connections"])),
         ("switches", lambda c: "%d" % c["switches"]))


def _row(cells):
    return "| " + " | ".join(cells) + " |"


def _figures(results):
    lines = [_row(["aim: the agent / the other", "at most", "measured", "the other"]),
             _row(["---"] * 4)]
    for words, aim, measured, other in aims(results):
        lines.append(_row([words, "%.4g" % aim, "-" if measured is None else
                           "%.2f" % measured, other or "-"]))
    for result in results:
        if "clients" not in result:
            continue
        most = max((c["rounds"] for c in result["clients"].values()), default=0)
        lines += ["", "**%s** (%s; %d rounds)" % (result["world"], result["title"],
                                                  most), "",
                  _row(["client", *[n for n, _ in CELLS], "agent/it: CPU", "wall"]),
                  _row(["---"] * (len(CELLS) + 3))]
        for name, client in result["clients"].items():
            if client["rounds"]:
                ratio = result["ratios"].get(name)
                few = " (%d rounds)" % client["rounds"] if client["rounds"] < most \
                    else ""
                lines.append(_row([name + few, *[show(client) for _, show in CELLS],
                                   *(["%.2f" % ratio[f] for f in ("cpu_s", "wall_s")]
                                     if ratio else ["", ""])]))
        lines += [_row([name, "SKIPPED: " + why] + [""] * (len(CELLS) + 1))
                  for name, why in result["skipped"].items()]
    for result in results:
        if result["world"] in ("idle", "first-byte") and "ratio" in result:
            words = "; ".join(" ".join(line.split())
                              for line in text(result).strip().split("\n")[1:])
            lines += ["", "**%s** (%s): %s" % (result["world"], result["title"], words)]
    return lines


def _floor_rows(results):
    return [_row([part, "%.3f" % result[part]]) for result in results
            if result["world"] == "limit" for part in PARTS]


def refresh(path, results):
    """Write the figures into a page, between its `<!-- figures -->` marks."""
    with open(path) as stream:
        page = stream.read()
    for name, lines in (("figures", _figures(results)),
                        ("limit", [_row(["part", "s/GiB"]), _row(["---"] * 2),
                                   *_floor_rows(results)])):
        begin, end = "<!-- %s -->" % name, "<!-- end of %s -->" % name
        head, rest = page.split(begin)
        page = head + begin + "\n\n" + "\n".join(lines) + "\n\n" + end + \
            rest.split(end)[1]
    with open(path, "w") as stream:
        stream.write(page)


# -- files -------------------------------------------------------------------------

def write(path, result):
    with open(path, "w") as stream:
        json.dump(result, stream, indent=1)
        stream.write("\n")


def read(folder, worlds):
    """What was measured of these, last time."""
    found = []
    for about in worlds:
        path = os.path.join(folder, about.name + ".json")
        if os.path.exists(path):
            with open(path) as stream:
                found.append(json.load(stream))
    return found
