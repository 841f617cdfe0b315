"""How answers of Open MPIC's core are judged and counted for `scripts/open-mpic-beside`."""

import asyncio
import unittest
from types import SimpleNamespace
from typing import Any

import open_mpic

KEY = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
GOOD = {"identifier": "www.c0.example", "key_authorization": KEY, "is_good": True}
BAD = {**GOOD, "is_good": False}


def answer(is_valid: bool, is_completed: bool = True) -> Any:
    check = SimpleNamespace(check_completed=is_completed, errors=["a time-out"])
    element = SimpleNamespace(perspective_code="ams1", check_response=check)
    return SimpleNamespace(domain_or_ip_target="www.c0.example", is_valid=is_valid, perspectives=[element])


class Judging(unittest.TestCase):
    def test_right_is_the_result_that_is_wanted_of_checks_that_were_completed(self) -> None:
        self.assertIsNone(open_mpic.fault(answer(True), True))
        self.assertIsNone(open_mpic.fault(answer(False), False))
        self.assertEqual(open_mpic.fault(answer(False), True), "www.c0.example: is_valid is False")
        self.assertEqual(open_mpic.fault(answer(True), False), "www.c0.example: is_valid is True")
        self.assertEqual(open_mpic.fault(answer(False, False), False), "www.c0.example at ams1: ['a time-out']")

    def corroborate(self, request: dict[str, Any], *answers: bool) -> tuple[str | None, list[str]]:
        """What was wrong, and the checks that the coordinator was called for."""
        called: list[str] = []

        async def coordinate(asked: Any) -> Any:
            called.append(asked.check_type.value)
            return answer(answers[len(called) - 1])

        return asyncio.run(open_mpic.corroborate(coordinate, "dns-01", request)), called

    def test_a_good_name_needs_both_checks_and_a_bad_one_ends_with_dcv(self) -> None:
        self.assertEqual(self.corroborate(GOOD, True, True), (None, ["dcv", "caa"]))
        self.assertEqual(self.corroborate(GOOD, True, False), ("www.c0.example: is_valid is False", ["dcv", "caa"]))
        self.assertEqual(self.corroborate(GOOD, False), ("www.c0.example: is_valid is False", ["dcv"]))
        self.assertEqual(self.corroborate(BAD, False), (None, ["dcv"]))
        self.assertEqual(self.corroborate(BAD, True), ("www.c0.example: is_valid is True", ["dcv"]))

    def test_calls_that_fail_are_wrong_and_end_nothing(self) -> None:
        # One perspective is too few for a cohort of this coordinator, so each call raises.
        place = {"id": "ams1", "rir": "RIPE NCC", "resolver": "127.0.0.1:5353"}
        job = {
            "method": "dns-01",
            "at_a_time": 2,
            "issuer": "ca.example",
            "perspectives": [place],
            "requests": [GOOD] * 3,
        }
        told = asyncio.run(open_mpic.run(job))
        self.assertEqual(told["wrong"], 3)
        self.assertIn("www.c0.example: ValueError", told["such_as"])


class Asking(unittest.TestCase):
    def test_dns_01_is_asked_by_the_digest_of_the_key_authorization(self) -> None:
        parameters = open_mpic.control("dns-01", "a.b")
        self.assertEqual(parameters.key_authorization_hash, "LnM23I66h-9HLfVow1SCq_JXXcPl6sDFxiuP-urCyTQ")

    def test_http_01_is_asked_by_token_and_key_authorization(self) -> None:
        parameters = open_mpic.control("http-01", KEY)
        self.assertEqual((parameters.token, parameters.key_authorization), (KEY.split(".")[0], KEY))


if __name__ == "__main__":
    unittest.main()
