"""95 % intervals of shares and of their differences, in closed form: what answers, filters, models and variants are judged by."""

from __future__ import annotations

import math

Z = 1.959963984540054  # 95 %, two-sided


def wilson(right: float, cases: float) -> tuple[float, float]:
    """The 95 % Wilson interval of right / cases; both may be effective numbers."""
    if cases <= 0:
        return 0.0, 1.0
    share = right / cases
    middle = share + Z * Z / (2 * cases)
    half = Z * math.sqrt(share * (1 - share) / cases + Z * Z / (4 * cases * cases))
    scale = 1 + Z * Z / cases
    low, high = (middle - half) / scale, (middle + half) / scale
    return max(0.0, min(low, share)), min(1.0, max(high, share))  # at 0 and 1 the ends are the share, but for rounding


def newcombe(right_a: float, cases_a: float, right_b: float, cases_b: float) -> tuple[float, float]:
    """The 95 % interval of share b - share a, of independent cases (Newcombe 1998, method 10: from Wilson's ends)."""
    share_a, share_b = (right_a / cases_a if cases_a else 0.5), (right_b / cases_b if cases_b else 0.5)
    (low_a, high_a), (low_b, high_b) = wilson(right_a, cases_a), wilson(right_b, cases_b)
    middle = share_b - share_a
    return middle - math.hypot(share_b - low_b, high_a - share_a), middle + math.hypot(
        high_b - share_b, share_a - low_a
    )
