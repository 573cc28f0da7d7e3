"""The 95 % interval of a share, in closed form: what people's answers, filters and attribute models are judged by."""

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
