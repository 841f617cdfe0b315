"""One run of Open MPIC's core, for `scripts/open-mpic-beside`: its coordinator and its checkers, in this process.

Reads a job as JSON from standard input and writes its findings as JSON to standard output. All that is decided here
is which DNS server a perspective asks, how long it may wait, and that nothing is logged. The coordinator calls the
checkers directly: no HTTP and no JSON between them, which a real one has.

A corroboration is two calls of the coordinator, as one of its calls checks one thing: DCV, then CAA unless DCV was
refused. CPU time is this process's own from the first call to the last answer, without its start.
"""

import asyncio
import base64
import hashlib
import json
import logging
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from importlib.metadata import version
from typing import Any

import dns.asyncresolver
from open_mpic_core import (
    CheckType,
    DcvAcmeDns01ValidationParameters,
    DcvAcmeHttp01ValidationParameters,
    MpicCaaChecker,
    MpicCaaRequest,
    MpicCoordinator,
    MpicCoordinatorConfiguration,
    MpicDcvChecker,
    MpicDcvRequest,
    RemotePerspective,
)

# So long that a busy machine makes nothing fail.
WAIT_SECONDS = 60.0
PACKAGES = ("open-mpic-core", "dnspython", "aiohttp", "pydantic")
Job = dict[str, Any]
Check = Callable[[RemotePerspective, CheckType, Any], Awaitable[Any]]


def checkers(places: list[dict[str, str]], issuer: str) -> Check:
    """What the coordinator calls for a check at a perspective. Each has checkers and a resolver of its own."""
    dcv: dict[str, MpicDcvChecker] = {}
    caa: dict[str, MpicCaaChecker] = {}
    for place in places:
        host, port = place["resolver"].rsplit(":", 1)
        asked = dns.asyncresolver.Resolver(configure=False)
        asked.nameservers = [host]
        asked.port = int(port)
        # The checkers take the default, whatever it is when they are made.
        dns.asyncresolver.default_resolver = asked
        waits = {"dns_timeout": WAIT_SECONDS, "dns_resolution_lifetime": WAIT_SECONDS}
        dcv[place["id"]] = MpicDcvChecker(http_client_timeout=WAIT_SECONDS, **waits)
        caa[place["id"]] = MpicCaaChecker([issuer], **waits)

    async def check(perspective: RemotePerspective, kind: CheckType, request: Any) -> Any:
        if kind == CheckType.DCV:
            return await dcv[perspective.code].check_dcv(request)
        return await caa[perspective.code].check_caa(request)

    return check


def coordinator(job: Job) -> MpicCoordinator:
    """A coordinator that asks all perspectives, with the quorum that it has by default."""
    places = job["perspectives"]
    perspectives = [RemotePerspective(code=place["id"], rir=place["rir"]) for place in places]
    settings = MpicCoordinatorConfiguration(perspectives, len(places), None, "a secret")
    return MpicCoordinator(checkers(places, job["issuer"]), settings)


def control(
    method: str, key_authorization: str
) -> DcvAcmeDns01ValidationParameters | DcvAcmeHttp01ValidationParameters:
    """What is asked of DCV."""
    if method == "http-01":
        token = key_authorization.split(".")[0]
        return DcvAcmeHttp01ValidationParameters(token=token, key_authorization=key_authorization)
    digest = hashlib.sha256(key_authorization.encode()).digest()
    return DcvAcmeDns01ValidationParameters(
        key_authorization_hash=base64.urlsafe_b64encode(digest).decode().rstrip("=")
    )


def fault(answer: Any, is_wanted: bool) -> str | None:
    """What is wrong with an answer: another result than is right, or a check that was not completed."""
    for element in answer.perspectives:
        if not element.check_response.check_completed:
            return f"{answer.domain_or_ip_target} at {element.perspective_code}: {element.check_response.errors}"
    if answer.is_valid != is_wanted:
        return f"{answer.domain_or_ip_target}: is_valid is {answer.is_valid}"
    return None


async def corroborate(coordinate: Callable[[Any], Awaitable[Any]], method: str, request: dict[str, Any]) -> str | None:
    """One corroboration; what was wrong with it, if anything was."""
    name, is_good = request["identifier"], request["is_good"]
    parameters = control(method, request["key_authorization"])
    answer = await coordinate(MpicDcvRequest(domain_or_ip_target=name, dcv_check_parameters=parameters))
    wrong = fault(answer, is_good)
    if wrong or not is_good:
        return wrong
    return fault(await coordinate(MpicCaaRequest(domain_or_ip_target=name)), True)


async def run(job: Job) -> dict[str, Any]:
    """All corroborations of a job, so many at a time."""
    coordinate = coordinator(job).coordinate_mpic
    requests: Iterator[dict[str, Any]] = iter(job["requests"])
    faults: list[str] = []

    async def work() -> None:
        for request in requests:
            try:
                wrong = await corroborate(coordinate, job["method"], request)
            except Exception as error:  # a call that fails is counted, whatever the reason
                wrong = f"{request['identifier']}: {type(error).__name__}: {error}"
            if wrong:
                faults.append(wrong)

    before, begun = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    await asyncio.gather(*(work() for _ in range(job["at_a_time"])))
    seconds, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_SELF)
    return {
        "cpu_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "seconds": seconds,
        "wrong": len(faults),
        "such_as": faults[0] if faults else None,
        "versions": {"Python": sys.version.split()[0], **{package: version(package) for package in PACKAGES}},
    }


if __name__ == "__main__":
    logging.getLogger("open_mpic_core").setLevel(logging.CRITICAL)
    json.dump(asyncio.run(run(json.load(sys.stdin))), sys.stdout)
