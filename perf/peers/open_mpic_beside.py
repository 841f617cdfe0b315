"""Corroborations of Parallax beside those of Open MPIC's core, in alternating rounds: `scripts/open-mpic-beside`.

Runs in network and mount namespaces of its own, which the script makes. Both sides ask the same DNS servers of the
laboratory over the loopback about names of the same form; one request in so many is bad, and its refusal is the right
answer. The names are more for Parallax, whose process is counted with its start and end.
"""

import argparse
import json
import os
import platform
import re
import resource
import shutil
import statistics
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

# One request in so many has a key authorization that nobody published.
BAD_EVERY = 50
# A corroboration of Open MPIC takes so much longer that this share of the names is enough.
OPEN_MPIC_SHARE = 20
OPEN_MPIC_LEAST = 100
RUN_SECONDS_MAX = 3_600
SERVER_SECONDS_MAX = 86_400
# Where the system's resolver asks. Open MPIC's http-01 looks addresses up with it and with no other.
SYSTEM_RESOLVER = "127.0.0.53:53"
WEB_SERVER = "127.0.0.1:80"
Request = dict[str, Any]


@dataclass(frozen=True)
class Run:
    """What a run of one side cost."""

    corroborations: int
    cpu_seconds: float
    seconds: float
    questions: float
    """DNS questions a corroboration."""
    wrong: int
    such_as: str | None
    at_a_time: int | None = None
    """Calls of Open MPIC's coordinator in flight."""

    @property
    def cpu_us(self) -> float:
        """CPU time of a corroboration in microseconds."""
        return self.cpu_seconds * 1e6 / self.corroborations

    @property
    def per_second(self) -> float:
        """Corroborations a second, with all that shares the machine."""
        return self.corroborations / self.seconds

    def told(self) -> dict[str, Any]:
        """For the JSON file."""
        figures = {"cpu_us": round(self.cpu_us, 1), "per_second": round(self.per_second, 1)}
        return {**vars(self), **figures}


def requests(count: int, method: str, key_authorization: str) -> Iterator[Request]:
    """Names to be corroborated; the last of every `BAD_EVERY` is bad."""
    token, thumbprint = key_authorization.split(".")
    bad = f"{token[::-1]}.{thumbprint}"
    for n in range(count):
        is_good = n % BAD_EVERY != BAD_EVERY - 1
        asked = key_authorization if is_good else bad
        yield {
            "id": f"c{n}",
            "identifier": f"www.c{n}.example",
            "method": method,
            "key_authorization": asked,
            "is_good": is_good,
        }


def bulk_line(request: Request) -> str:
    """A request as `parallax bulk` reads it."""
    fields = {name: request[name] for name in ("id", "identifier", "method", "key_authorization")}
    return json.dumps({**fields, "token": request["key_authorization"].split(".")[0]})


def faults(asked: list[Request], lines: list[dict[str, Any]]) -> list[str]:
    """What is wrong with the results of `parallax bulk`: a good name refused, a bad one not, or not for that."""
    results = {line.get("id"): line for line in lines}
    found = []
    for request in asked:
        line = results.get(request["id"], {})
        right = ("pass", None) if request["is_good"] else ("fail", "unauthorized")
        if (line.get("verdict"), line.get("problem")) != right:
            found.append(f"{request['identifier']}: {line.get('verdict', 'no result')}: {line.get('message')}")
    return found


def datagrams_sent(snmp: str) -> int:
    """UDP datagrams sent in this network namespace, out of `/proc/net/snmp`."""
    names, figures = (line.split()[1:] for line in snmp.splitlines() if line.startswith("Udp:"))
    return int(dict(zip(names, figures, strict=True))["OutDatagrams"])


def command(program: Path, arguments: str, *more: str | Path) -> list[str]:
    """A program with its arguments; those that may hold spaces come last."""
    return [str(program), *arguments.split(), *map(str, more)]


def questions_asked() -> float:
    """DNS questions so far: nothing else is sent here, and each has one answer."""
    return datagrams_sent(Path("/proc/net/snmp").read_text()) / 2


def cpu_model(cpuinfo: str) -> str:
    """The processor, out of `/proc/cpuinfo`."""
    found = re.search(r"^model name\s*: (.+)$", cpuinfo, re.MULTILINE)
    return found.group(1) if found else "unknown"


def spread(runs: list[Run], figure: Callable[[Run], float]) -> str:
    """The median, with the lowest and the highest."""
    values = [figure(run) for run in runs]
    return f"{statistics.median(values):.0f} ({min(values):.0f}–{max(values):.0f})"


def ratios(ours: list[Run], theirs: list[Run]) -> dict[str, float]:
    """How many times as many as Open MPIC: by CPU time, which is a second and core, and by the rate seen here."""

    def median(runs: list[Run], figure: Callable[[Run], float]) -> float:
        return statistics.median(figure(run) for run in runs)

    cpu = median(theirs, lambda run: run.cpu_us) / median(ours, lambda run: run.cpu_us)
    rate = median(ours, lambda run: run.per_second) / median(theirs, lambda run: run.per_second)
    return {"cpu": round(cpu, 1), "rate": round(rate, 1)}


def cheapest(tried: list[Run]) -> int:
    """Which run took the least CPU time, of those with the fewest wrong results: what fails at once is no bargain."""
    return min(range(len(tried)), key=lambda nth: (tried[nth].wrong, tried[nth].cpu_us))


def table(method: str, ours: list[Run], theirs: list[Run], tried: list[Run]) -> str:
    """The Markdown of one method."""
    rows = [
        f"### {method} and CAA, six perspectives, medians of {len(ours)} rounds",
        "",
        "| | corroborations | µs of CPU each | a second and core | a second here | DNS questions each | wrong |",
        "|---|---|---|---|---|---|---|",
    ]
    for who, runs in (("Parallax, durable", ours), (f"Open MPIC, {theirs[0].at_a_time} at a time", theirs)):
        cells = [
            who,
            str(runs[0].corroborations),
            spread(runs, lambda run: run.cpu_us),
            spread(runs, lambda run: 1e6 / run.cpu_us),
            spread(runs, lambda run: run.per_second),
            f"{statistics.median(run.questions for run in runs):.1f}",
            str(sum(run.wrong for run in runs)),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    times = ratios(ours, theirs)
    rows += ["", f"Parallax makes {times['cpu']} times as many by CPU time, {times['rate']} times by the rate here."]
    levels = (
        f"{run.at_a_time}: {run.cpu_us:.0f} µs and {run.per_second:.0f} a second, {run.wrong} wrong" for run in tried
    )
    rows += [f"Open MPIC by calls at a time, of which the cheapest was taken: {'; '.join(levels)}."]
    wrong = dict.fromkeys(run.such_as for run in (*ours, *theirs, *tried) if run.such_as)
    rows += [f"Wrong, such as: {such_as}" for such_as in wrong]
    return "\n".join(rows) + "\n"


@dataclass(frozen=True)
class Laboratory:
    """The files and programs of a comparison."""

    programs: Path
    work: Path
    values: dict[str, Any]
    settings: dict[str, Any]

    @classmethod
    def make(cls, programs: Path, work: Path) -> "Laboratory":
        """Writes the settings of a primary and five remotes, as `scripts/corroborations` has them."""
        perf = programs / "parallax-perf"
        make = command(perf, "lab generate --seed 1 --requests 1 --slow-share 0 --dir", work)
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
        file = work / "parallax.toml"
        # Open MPIC's http-01 knows no other port.
        text, changed = re.subn(r"^http_port = \d+$", "http_port = 80", file.read_text(), flags=re.MULTILINE)
        assert changed == 1, "settings of a laboratory have one http_port"
        file.write_text(text)
        values = subprocess.run(command(perf, "node values"), check=True, capture_output=True)
        return cls(programs, work, json.loads(values.stdout), tomllib.loads(text))

    @contextmanager
    def servers(self) -> Iterator[None]:
        """A DNS server for each perspective, one for the system's resolver, and a web server."""
        with (self.work / "resolv.conf").open("w") as file:
            file.write(f"nameserver {SYSTEM_RESOLVER.rsplit(':', 1)[0]}\n")
        subprocess.run(["mount", "--bind", file.name, "/etc/resolv.conf"], check=True)
        places = [place["resolver"] for place in self.settings["perspective"]] + [SYSTEM_RESOLVER]
        said = [("dns", place, ["--text", self.values["text"]]) for place in places]
        said.append(("http", WEB_SERVER, ["--body", self.values["key_authorization"]]))
        bare = self.programs / "parallax-bare"
        running: list[subprocess.Popen[str]] = []
        try:
            for kind, place, answer in said:
                respond = command(bare, f"respond {kind} --listen {place} --limit {SERVER_SECONDS_MAX}", *answer)
                running.append(subprocess.Popen(respond, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
                if not self.is_ready(running[-1]):
                    sys.exit(f"open-mpic-beside: no server at {place}")
            yield
        finally:
            for server in running:
                server.terminate()
                server.wait(timeout=10)

    @staticmethod
    def is_ready(server: subprocess.Popen[str]) -> bool:
        """Waits for a server to say that it listens."""
        return server.stdout is not None and server.stdout.readline().startswith("ready")

    def parallax(self, method: str, count: int) -> Run:
        """One run of `parallax bulk` with its journal; the CPU time is that of the whole process."""
        asked = list(requests(count, method, self.values["key_authorization"]))
        (self.work / "requests.jsonl").write_text("".join(bulk_line(request) + "\n" for request in asked))
        results = self.work / "results.jsonl"
        results.unlink(missing_ok=True)
        shutil.rmtree(self.work / "journal", ignore_errors=True)
        bulk = command(self.programs / "parallax", "bulk --json", self.work / "requests.jsonl", "--out", results)
        bulk += ["--config", str(self.work / "parallax.toml"), "--journal", str(self.work / "journal")]
        questions, before, begun = questions_asked(), resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        done = subprocess.run(bulk, capture_output=True, text=True, timeout=RUN_SECONDS_MAX)
        seconds, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
        if not results.exists():
            sys.exit(f"open-mpic-beside: parallax bulk ended with {done.returncode}: {done.stderr[-500:]}")
        lines = [json.loads(line) for line in results.read_text().splitlines()]
        wrong = faults(asked, lines)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        each = (questions_asked() - questions) / count
        return Run(count, cpu, seconds, each, len(wrong), wrong[0] if wrong else None)

    def open_mpic(self, method: str, count: int, at_a_time: int) -> tuple[Run, dict[str, str]]:
        """One run of Open MPIC's core, which tells its own CPU time, and its versions."""
        job = {
            "method": method,
            "at_a_time": at_a_time,
            "issuer": self.settings["issuer_domains"][0],
            "perspectives": [
                {name: place[name] for name in ("id", "rir", "resolver")} for place in self.settings["perspective"]
            ],
            "requests": list(requests(count, method, self.values["key_authorization"])),
        }
        # Its HTTP client would take a proxy of the environment.
        environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        core = command(Path(sys.executable), "-B", Path(__file__).with_name("open_mpic.py"))
        settings: dict[str, Any] = {"env": environment, "text": True, "check": True, "timeout": RUN_SECONDS_MAX}
        questions = questions_asked()
        done = subprocess.run(core, input=json.dumps(job), stdout=subprocess.PIPE, **settings)
        each = (questions_asked() - questions) / count
        told = json.loads(done.stdout)
        run = Run(count, told["cpu_seconds"], told["seconds"], each, told["wrong"], told["such_as"], at_a_time)
        return run, told["versions"]


def say(text: str) -> None:
    """How far it is."""
    print(text, file=sys.stderr)


def compare(
    laboratory: Laboratory, method: str, count: int, rounds: int, levels: list[int]
) -> tuple[str, dict[str, Any]]:
    """All rounds of one method: the Markdown, and the same for the JSON file."""
    few = max(count // OPEN_MPIC_SHARE, OPEN_MPIC_LEAST)
    tried = []
    for level in levels:
        tried.append(laboratory.open_mpic(method, few, level)[0])
        say(f"{method}, Open MPIC, {level} at a time: {tried[-1].cpu_us:.0f} µs of CPU a corroboration")
    best = levels[cheapest(tried)]
    ours, theirs = [], []
    for nth in range(rounds):
        ours.append(laboratory.parallax(method, count))
        run, versions = laboratory.open_mpic(method, few, best)
        theirs.append(run)
        say(f"{method}, round {nth + 1}: Parallax {ours[-1].cpu_us:.0f} µs, Open MPIC {run.cpu_us:.0f} µs")
    told = {
        "method": method,
        "times": ratios(ours, theirs),
        "parallax": [run.told() for run in ours],
        "open_mpic": [run.told() for run in theirs],
        "open_mpic_tried": [run.told() for run in tried],
        "open_mpic_versions": versions,
    }
    return table(method, ours, theirs, tried), told


def main() -> int:
    """Compares; the status is 1 if any result was wrong."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--programs", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--levels", type=int, nargs="+", required=True)
    parser.add_argument("--commit", required=True)
    parser.add_argument("--command", required=True)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    laboratory = Laboratory.make(options.programs, options.work)
    told: dict[str, Any] = {
        "form": "parallax-open-mpic-beside-1",
        "date": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "commit": options.commit,
        "kernel": platform.release(),
        "cpu": cpu_model(Path("/proc/cpuinfo").read_text()),
        "cpus": len(os.sched_getaffinity(0)),
        "load_before": os.getloadavg()[0],
        "command": options.command,
        "bad_every": BAD_EVERY,
        "methods": [],
    }
    tables = []
    with laboratory.servers():
        for method in ("dns-01", "http-01"):
            text, figures = compare(laboratory, method, options.count, options.rounds, options.levels)
            # At once, since what follows takes minutes.
            print(text, flush=True)
            tables.append(text)
            told["methods"].append(figures)
    told["load_after"] = os.getloadavg()[0]
    versions = ", ".join(f"{name} {number}" for name, number in told["methods"][0]["open_mpic_versions"].items())
    head = (
        f"{told['date']}, commit {told['commit']}, Linux {told['kernel']}, {told['cpus']} × {told['cpu']}, "
        f"load average {told['load_before']:.1f} before and {told['load_after']:.1f} after\n"
        f"`{told['command']}`; {versions}\n"
    )
    print(head)
    if options.out:
        options.out.write_text(json.dumps(told, indent=2) + "\n")
        options.out.with_suffix(".md").write_text("\n".join([head, *tables]))
    kinds = ("parallax", "open_mpic", "open_mpic_tried")
    runs = [run for figures in told["methods"] for kind in kinds for run in figures[kind]]
    return 1 if any(run["wrong"] for run in runs) else 0


if __name__ == "__main__":
    sys.exit(main())
