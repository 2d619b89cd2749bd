#!/bin/sh
# keep_report.sh OBJECT COMMAND...: runs the compiler; what ptxas says of registers and spills goes
# to OBJECT.ptxas (for tests/cuda/check_registers.py), everything else where it always goes.
object=$1
shift
"$@" 2>"$object.stderr"
status=$?
grep -E '^ptxas info|bytes stack frame' "$object.stderr" >"$object.ptxas"
grep -vE '^ptxas info|bytes stack frame' "$object.stderr" >&2
rm -f "$object.stderr"
exit $status
