"""Sizes, times and percentages: text to exact integers and back.

A size is a whole number of 4 KiB pages and nothing else; a float never takes part. A user who types "4GB" or "1000" is told
why it cannot be and what would do, because a silently rounded size makes two records differ for no visible reason.
"""

import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches

from memvirt.errors import ConfigError

PAGE_SIZE = 4096
MAX_TIME = 1 << 62  # ns, 146 years: sums of two times fit into 64 bits
MAX_PAGES = (1 << 32) - 2  # page numbers are 32 bits wide and the last one means "none"
MOST_TEXT, MOST_BITS = 100, 1000  # of a quantity, as text and as a number: no message shows more
HUGE_ORDER = 9  # a 2 MiB block is 2^9 pages


class PageCount(int):
    """A size that is counted in pages already; a plain integer counts bytes wherever a user gives a size."""


SIZE_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
TIME_UNITS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "min": 60 * 10**9, "h": 3600 * 10**9}
_DECIMAL_UNITS = {"K": "KiB", "KB": "KiB", "M": "MiB", "MB": "MiB", "G": "GiB", "GB": "GiB", "T": "TiB", "TB": "TiB"}

_QUANTITY = re.compile(r"\s*(?P<number>[+-]?[0-9][0-9_]*(?:\.[0-9]+)?)\s*(?P<unit>[A-Za-zµ%]*)\s*\Z")


def parse_bytes(value: object) -> int:
    """Bytes named by a text such as "4GiB" or by a plain integer; any integer >= 0.

    Raises ConfigError for another type, an unknown unit, a negative number or a fraction of a byte.
    """
    number, unit = _split(value, SIZE_UNITS, "size", "4GiB")
    if unit not in SIZE_UNITS:
        if unit == "%":
            raise ConfigError(f"size {value!r}: only swap can be a part of the host's memory, 0% to 10000% of it")
        wanted = _DECIMAL_UNITS.get(unit.upper())
        hint = f"{_plain(number)}{wanted}" if wanted else _close_unit(number, unit, SIZE_UNITS)
        raise ConfigError(
            f"size {value!r}: unknown unit '{unit}' (units: {', '.join(SIZE_UNITS)}); did you mean {hint}?"
        )
    size = number * SIZE_UNITS[unit]
    if size < 0:
        raise ConfigError(f"size {value!r} is negative; did you mean {_plain(-number)}{unit}?")
    if size != int(size):
        raise ConfigError(f"size {value!r} is not a whole number of bytes; did you mean {format_bytes(round(size))}?")
    return int(size)


def parse_pages(value: object, *, allow_zero: bool = False) -> int:
    """Pages of 4 KiB named by a text such as "4GiB", by a plain integer, which counts bytes, or by a PageCount.

    Raises ConfigError as parse_bytes does, and for zero (unless allowed), for what is not a multiple of a page, and
    for more pages than a 32-bit page number can name.
    """
    size = int(value) * PAGE_SIZE if isinstance(value, PageCount) else parse_bytes(value)
    if size == 0 and not allow_zero:
        raise ConfigError(f"size {value!r} is zero; the smallest is one page, did you mean 4KiB?")
    if size % PAGE_SIZE:
        nearest = max(1, (size + PAGE_SIZE // 2) // PAGE_SIZE)
        raise ConfigError(
            f"size {value!r} is not a multiple of the page size ({PAGE_SIZE} bytes); "
            f"did you mean {format_pages(nearest)}?{_unit_forgotten(value)}"
        )
    if size // PAGE_SIZE > MAX_PAGES:
        raise ConfigError(f"size {value!r} is larger than 32-bit page numbers can name; the most is under 16TiB")
    return size // PAGE_SIZE


def parse_time(value: object) -> int:
    """Nanoseconds named by a text such as "50us" or "1s", or by a plain integer, which counts nanoseconds.

    Raises ConfigError for another type, an unknown unit, a negative time, a fraction of a nanosecond, and for more than
    a simulated clock can be set to.
    """
    number, unit = _split(value, TIME_UNITS, "time", "50us")
    unit = "us" if unit == "µs" else unit
    if unit not in TIME_UNITS:
        hint = _close_unit(number, unit, TIME_UNITS)
        raise ConfigError(
            f"time {value!r}: unknown unit '{unit}' (units: {', '.join(TIME_UNITS)}); did you mean {hint}?"
        )
    time = number * TIME_UNITS[unit]
    if time < 0:
        raise ConfigError(f"time {value!r} is negative; did you mean {_plain(-number)}{unit}?")
    if time != int(time):
        raise ConfigError(f"time {value!r} is not a whole number of nanoseconds; did you mean {round(time)}ns?")
    if time > MAX_TIME:
        raise ConfigError(f"time {value!r} is beyond {MAX_TIME} ns, the most a simulated clock takes")
    return int(time)


def parse_interval(value: object) -> int:
    """As parse_time, for a time whose name does not end in _ns. ConfigError also for 1 to 999 without a unit, a number or
    a text: no one means so few nanoseconds, and a unit that was forgotten would change a host by a factor of a million."""
    time = parse_time(value)
    bare = isinstance(value, int) or (isinstance(value, str) and value.strip()[-1:].isdigit())
    if bare and 0 < time < TIME_UNITS["us"]:
        raise ConfigError(f"time {value!r} has no unit, and would be {time}ns; did you mean {time}ms? write the unit")
    return time


def parse_percent(value: object, *, maximum: int = 100) -> int:
    """Whole per cent, from 20 or "20%"; ConfigError outside 0..maximum and for fractions."""
    number, unit = _split(value, {"%": 1}, "percentage", "20%")
    if unit not in ("", "%"):
        raise ConfigError(f"percentage {value!r}: unknown unit '{unit}'; did you mean {_plain(number)}%?")
    if not 0 <= number <= maximum:
        nearest = 0 if number < 0 else maximum
        raise ConfigError(f"percentage {value!r} is outside 0..{maximum}; did you mean {nearest}%?")
    if number != int(number):
        raise ConfigError(f"percentage {value!r} is not a whole number; did you mean {round(number)}%?")
    return int(number)


def format_bytes(size: int) -> str:
    """The shortest exact text: 4GiB, 1536MiB, 10B. parse_bytes gives the number back."""
    return _format(size, SIZE_UNITS)


def format_pages(pages: int) -> str:
    """The shortest exact text of a number of pages: 4KiB, 64MiB. parse_pages gives the number back."""
    return "0" if pages == 0 else format_bytes(pages * PAGE_SIZE)


def format_time(time_ns: int) -> str:
    """The shortest exact text: 50us, 1500ms, 2min. parse_time gives the number back."""
    return _format(time_ns, TIME_UNITS)


def suggest(word: str, known: list[str] | tuple[str, ...]) -> str:
    """ "; did you mean 'x'?" for a near miss, else ""; never the word itself, which is known elsewhere and wrong here."""
    known = [name for name in known if name != word]
    close = get_close_matches(word.lower(), [name.lower() for name in known], n=1, cutoff=0.6)
    found = next((name for name in known if close and name.lower() == close[0]), None)
    return f"; did you mean '{found}'?" if found else ""


def shown(value: object) -> str:
    """A value in a message. Python gives integers of thousands of digits no text."""
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        return f"a number of {value.bit_length()} bits"
    return repr(value)


def _split(value: object, units: Mapping[str, int], what: str, example: str) -> tuple[Decimal, str]:
    base = min(units, key=lambda unit: units[unit])
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ConfigError(f'{what} {value!r} is a {type(value).__name__}; write text such as "{example}" or an integer')
    long = value.bit_length() > MOST_BITS if isinstance(value, int) else len(value) > MOST_TEXT
    if long:
        raise ConfigError(f'{what}: is far too long to be one; write it like "{example}"')
    if isinstance(value, int):
        return Decimal(value), base
    match = _QUANTITY.match(value)
    if match is None:
        raise ConfigError(f'{what} {value!r} is not a number with a unit; write it like "{example}"')
    try:
        number = Decimal(match["number"].replace("_", ""))
    except InvalidOperation as error:  # pragma: no cover - the pattern admits numbers only
        raise ConfigError(f"{what} {value!r} is not a number") from error
    return number, match["unit"] or base


def _format(value: int, units: Mapping[str, int]) -> str:
    if value == 0:
        return "0"
    unit = max((name for name in units if value % units[name] == 0), key=lambda name: units[name])
    return f"{value // units[unit]}{unit}"


def _plain(number: Decimal) -> str:
    return f"{number.normalize():f}"


def _close_unit(number: Decimal, unit: str, units: Mapping[str, int]) -> str:
    by_lower = {name.lower(): name for name in units}
    close = get_close_matches(unit.lower(), list(by_lower), n=1, cutoff=0.0)
    return f"{_plain(abs(number))}{by_lower[close[0]] if close else next(iter(units))}"


def _unit_forgotten(value: object) -> str:
    bare = isinstance(value, int) or (isinstance(value, str) and value.strip().isdigit())
    return f" (a number without a unit counts bytes; or {value}MiB?)" if bare else ""
