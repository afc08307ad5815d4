"""Fairness of a host: how evenly something is shared out, and how far what VMs hold is from what their shares say.

    Jain's index    (sum x)^2 / (n * sum x^2) of n amounts: 1 where all are equal, 1/n where one has everything
                    (Jain, Chiu, Hawe, "A quantitative measure of fairness", DEC TR-301, 1984)
    due             what each is due of a whole: by shares, no more than its most, and what that leaves over by shares
                    among the others
    share error     half of the sum of |held - due| / the sum of held: the part that is with the wrong VM

All in whole numbers; a quotient is a pair of them.
"""

from collections.abc import Mapping, Sequence


def jain(amounts: Sequence[int]) -> tuple[int, int]:
    """Numerator and denominator of Jain's index; the denominator is 0 where nobody has anything."""
    return sum(amounts) ** 2, len(amounts) * sum(amount * amount for amount in amounts)


def due(whole: int, shares: Mapping[str, int], most: Mapping[str, int]) -> dict[str, int]:
    """What each is due of `whole`; sums to that, but for less than one for each, or to the sum of `most` if that is less."""
    found: dict[str, int] = {}
    left, others = whole, dict(shares)
    while others:
        weight = sum(others.values())
        full = [name for name, share in others.items() if weight and left * share >= most[name] * weight]
        if not full:
            return found | {name: left * share // weight if weight else 0 for name, share in others.items()}
        for name in full:
            found[name] = most[name]
            left -= most[name]
            del others[name]
    return found


def share_error(held: Mapping[str, int], owed: Mapping[str, int]) -> tuple[int, int]:
    """Numerator and denominator of the part that is with the wrong VM; the denominator is 0 where nobody has anything."""
    return sum(abs(pages - owed[name]) for name, pages in held.items()), 2 * sum(held.values())
