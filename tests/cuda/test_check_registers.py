import unittest

import check_registers

REPORT = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_ZN1a4bodyILi8EEEvPf' for 'sm_90a'
ptxas info    : Function properties for _ZN1a4bodyILi8EEEvPf
    48 bytes stack frame, 80 bytes spill stores, 88 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 48 bytes cumulative stack size
ptxas info    : Compiling entry function '_ZN6kvstow7kernels4cuda4bodyILi1EEEvPf' for 'sm_90a'
ptxas info    : Function properties for _ZN6kvstow7kernels4cuda4bodyILi1EEEvPf
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers
"""


class CheckRegisters(unittest.TestCase):
    def test_reads_what_ptxas_says(self):
        found = check_registers.bodies(REPORT)
        self.assertEqual(list(found.values()), [(255, 88), (40, 0)])
        self.assertEqual(list(check_registers.readable(found)), ["a::body<8>", "body<1>"])

    def test_more_registers_or_a_spill_fail(self):
        limits = {"body": (40, 0)}
        self.assertEqual(check_registers.findings({"body": (40, 0)}, limits, True), [])
        self.assertEqual(len(check_registers.findings({"body": (41, 0)}, limits, True)), 1)
        self.assertEqual(check_registers.findings({"body": (41, 0)}, limits, False), [])
        self.assertEqual(len(check_registers.findings({"body": (40, 4)}, limits, False)), 1)

    def test_a_body_that_is_not_recorded_must_not_spill(self):
        self.assertEqual(check_registers.findings({"new": (255, 0)}, {}, True), [])
        self.assertEqual(len(check_registers.findings({"new": (32, 8)}, {}, True)), 1)

    def test_a_recorded_body_that_is_gone_fails(self):
        self.assertEqual(len(check_registers.findings({}, {"body": (40, 0)}, True)), 1)


if __name__ == "__main__":
    unittest.main()
