"""How t moves by itself while the playground plays."""

FRAMES = 30  # pictures from the first update to the last, however many there are
SECONDS = 0.3  # from one to the next


def stride(last: int) -> int:
    """By how many updates t moves in a frame."""
    return max(1, -(-last // FRAMES))


def forward(t: int, last: int) -> int:
    """The t of the next frame; the last one stays."""
    return min(t + stride(last), last)
