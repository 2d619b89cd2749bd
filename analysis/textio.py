"""Writing text the same way everywhere: atomically, with one number format."""

import os


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
    with open(temporary, mode, encoding=encoding) as file:
        file.write(content)
    os.replace(temporary, path)
