"""Medians, ratios, and how they are shown."""

import json
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


def best(result, figure):
    """(name, agent / that peer) of the peer with the lowest median."""
    peers = [(c[figure], name) for name, c in result["clients"].items()
             if name != "agent" and c[figure] is not None]
    if not peers or not result["ratios"]:
        return None, None
    name = min(peers)[1]
    return name, result["ratios"][name][figure]


COLUMNS = (("CPU s/GiB", 10, lambda c: "%.2f" % c["cpu_s_per_gib"]),
           ("CPU s", 8, lambda c: "%.3f" % c["cpu_s"]),
           ("wall s", 8, lambda c: "%.3f" % c["wall_s"]),
           ("PSS MiB", 8, lambda c: "%.1f" % c["pss_mib"]),
           ("own MiB", 8, lambda c: "%.1f" % c["own_mib"]),
           ("wire MB", 9, lambda c: "%.1f" % (c["wire_bytes"] / 1e6)),
           ("requests", 9, lambda c: "%d" % c["requests"]),
           ("conns", 6, lambda c: "%d" % c["connections"]),
           ("switches", 9, lambda c: "%d" % c["switches"]))


def text(result):
    """A table; the last two columns are agent / this client."""
    rounds = max((c["rounds"] for c in result["clients"].values()), default=0)
    lines = ["", "%s (medians of %d)" % (result["title"], rounds),
             "  %-26s" % "" + "".join("%*s" % (w, n) for n, w, _ in COLUMNS)
             + "   agent/it: CPU  wall"]
    for name, client in result["clients"].items():
        if not client["rounds"]:
            continue
        ratio = result["ratios"].get(name)
        lines.append("  %-26s" % name + "".join(
            "%*s" % (w, show(client)) for _, w, show in COLUMNS) + (
                "%16.2f %5.2f" % (ratio["cpu_s"], ratio["wall_s"]) if ratio else ""))
    for name, why in result["skipped"].items():
        lines.append("  %-26s SKIPPED: %s" % (name, why))
    return "\n".join(lines)


def write(path, result):
    with open(path, "w") as stream:
        json.dump(result, stream, indent=1)
        stream.write("\n")
