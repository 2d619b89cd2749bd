"""Writing text the same way everywhere: atomically, with one number format."""

import os
import sys


def cell(value):
    """A CSV cell: six significant digits for a float, blank for None, no dust around zero."""
    if value is None:
        return ""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.6g}" if abs(value) > 1e-9 else "0"


def write(path, content):
    """Writes a file whole or not at all."""
    mode, encoding = ("wb", None) if isinstance(content, bytes) else ("w", "utf-8")
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, mode, encoding=encoding) as file:
            file.write(content)
        os.replace(temporary, path)
    except OSError as error:
        if os.path.exists(temporary):
            os.remove(temporary)
        error.filename = path
        raise


def exit_with(name, main):
    """Exits with main's code; with 2 and one line where a file, or what it prints, cannot be written."""
    sys.stdout.reconfigure(errors="backslashreplace")  # names of the user's, in any locale
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()
    except OSError as error:
        print(f"{name}: {error}", file=sys.stderr)
        os._exit(2)  # the interpreter would try to print again, and say so at length
    sys.exit(code)
