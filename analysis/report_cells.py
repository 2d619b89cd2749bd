"""How numbers and table cells of report.html are written."""


def number(value):
    """Four significant digits, no exponent, a dash for None."""
    if value is None:
        return "–"
    text = f"{value:.4g}"
    return text if "e" not in text else f"{value:.0f}" if abs(value) > 1 else f"{value:.6f}"


def percent(share, digits):
    """A signed percentage without a negative zero."""
    return f"{round(100 * share, digits) + 0.0:+.{digits}f} %"


def cell(text, kind=""):
    return {"text": text, "kind": kind}
