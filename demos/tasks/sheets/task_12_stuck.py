"""Task 12: why is this run stuck?

Three networks learn two half moons by gradient descent. Their losses hardly fall. This was measured after the last
update:

    run   loss 200 updates ago   loss now   ‖g‖     λ_min   λ_max   2/η     cosine
    A     0.270                  0.272      1.1     -1.0    3.4     3.33    -1.00
    B     1.000                  1.000      0.0     -1.3    2.0     20      none
    C     0.946                  0.912      1.3     -1.0    4.3     20000   +1.00

‖g‖ is the length of the gradient. λ_min and λ_max are the lowest and the highest eigenvalue of the Hessian. The cosine
is that of the angle between the last two steps. How to read it:

    ‖g‖ = 0, λ_min < 0 < λ_max                  the run stands at a saddle point
    ‖g‖ = 0, λ_min > 0                          the run stands at a local minimum
    ‖g‖ not 0, λ_max ≥ 2/η, cosine near −1      each step jumps over the valley, and the next one jumps back
    ‖g‖ not 0, λ_max far below 2/η, cosine +1   all steps go the same way, and they are short

    causes: "saddle point", "local minimum", "learning rate too large", "learning rate too small"
    cures:  "escape" (along the eigenvector of λ_min), "lr / 10", "lr * 100", "train longer"

Fill the hole: write a cause and a cure for each run. The cures are tried on the runs themselves.
"""


def verdicts():
    """For each run, its cause and its cure."""
    return {
        "A": ...,  # for example ("local minimum", "train longer")
        "B": ...,
        "C": ...,
    }
