"""What is read and computed for `scripts/open-mpic-beside`."""

import json
import unittest

import open_mpic_beside as beside
from open_mpic_beside import Run

KEY = "abcd.thumb"


def run(cpu_seconds: float, seconds: float, at_a_time: int | None = None, wrong: int = 0) -> Run:
    return Run(1_000, cpu_seconds, seconds, 24.0, wrong, "c7: no result" if wrong else None, at_a_time)


class Requests(unittest.TestCase):
    def test_the_last_of_every_fifty_is_bad(self) -> None:
        asked = list(beside.requests(100, "dns-01", KEY))
        self.assertEqual([n for n, request in enumerate(asked) if not request["is_good"]], [49, 99])
        self.assertEqual({request["key_authorization"] for request in asked if request["is_good"]}, {KEY})
        self.assertEqual(asked[49]["key_authorization"], "dcba.thumb")

    def test_a_line_of_bulk_has_the_token_of_its_key_authorization(self) -> None:
        bad = list(beside.requests(50, "http-01", KEY))[49]
        expected = {
            "id": "c49",
            "identifier": "www.c49.example",
            "method": "http-01",
            "token": "dcba",
            "key_authorization": "dcba.thumb",
        }
        self.assertEqual(json.loads(beside.bulk_line(bad)), expected)


class Faults(unittest.TestCase):
    def found(self, good: dict[str, str], bad: dict[str, str]) -> int:
        asked = list(beside.requests(50, "dns-01", KEY))[48:]
        return len(beside.faults(asked, [{"id": "c48", **good}, {"id": "c49", **bad}]))

    def test_right_is_a_good_name_permitted_and_a_bad_one_refused_as_unauthorized(self) -> None:
        refused = {"verdict": "fail", "problem": "unauthorized"}
        self.assertEqual(self.found({"verdict": "pass"}, refused), 0)
        self.assertEqual(self.found(refused, refused), 1)
        self.assertEqual(self.found({"verdict": "pass"}, {"verdict": "pass"}), 1)
        self.assertEqual(self.found({"verdict": "pass"}, {"verdict": "fail", "problem": "dns"}), 1)

    def test_a_name_without_a_result_is_wrong(self) -> None:
        asked = list(beside.requests(2, "dns-01", KEY))
        self.assertEqual(beside.faults(asked, [{"id": "c0", "verdict": "pass"}]), ["www.c1.example: no result: None"])


class Files(unittest.TestCase):
    def test_datagrams_sent_are_those_of_udp(self) -> None:
        text = "Ip: OutDatagrams\nIp: 9\nUdp: InDatagrams OutDatagrams\nUdp: 5 7\nUdpLite: OutDatagrams\nUdpLite: 3\n"
        self.assertEqual(beside.datagrams_sent(text), 7)

    def test_the_processor_has_a_name_or_is_unknown(self) -> None:
        self.assertEqual(beside.cpu_model("processor\t: 0\nmodel name\t: AMD EPYC\nflags\t: fpu\n"), "AMD EPYC")
        self.assertEqual(beside.cpu_model("processor\t: 0\n"), "unknown")


class Figures(unittest.TestCase):
    ours = [run(0.1, 0.5), run(0.3, 0.25), run(0.2, 0.4)]
    theirs = [run(10.0, 20.0, 16), run(30.0, 10.0, 16), run(20.0, 16.0, 16)]

    def test_figures_are_of_one_corroboration(self) -> None:
        self.assertAlmostEqual(run(0.1, 0.5).cpu_us, 100.0)
        self.assertAlmostEqual(run(0.1, 0.5).per_second, 2_000.0)

    def test_ratios_are_those_of_the_medians(self) -> None:
        self.assertEqual(beside.ratios(self.ours, self.theirs), {"cpu": 100.0, "rate": 40.0})

    def test_the_cheapest_is_taken_of_those_with_the_fewest_wrong(self) -> None:
        self.assertEqual(beside.cheapest([run(10.0, 1.0), run(8.0, 2.0), run(9.0, 1.0)]), 1)
        self.assertEqual(beside.cheapest([run(10.0, 1.0), run(0.1, 1.0, wrong=900)]), 0)

    def test_the_table_has_medians_with_their_spread_and_what_was_wrong(self) -> None:
        text = beside.table("dns-01", self.ours, self.theirs, [run(10.0, 20.0, 1), run(9.0, 20.0, 16, wrong=2)])
        self.assertIn(
            "| Parallax, durable | 1000 | 200 (100–300) | 5000 (3333–10000) | 2500 (2000–4000) | 24.0 | 0 |", text
        )
        self.assertIn(
            "| Open MPIC, 16 at a time | 1000 | 20000 (10000–30000) | 50 (33–100) | 62 (50–100) | 24.0 | 0 |", text
        )
        self.assertIn("100.0 times as many by CPU time, 40.0 times by the rate here", text)
        self.assertIn("1: 10000 µs and 50 a second, 0 wrong; 16: 9000 µs and 50 a second, 2 wrong", text)
        self.assertIn("Wrong, such as: c7: no result", text)


if __name__ == "__main__":
    unittest.main()
