"""Every number that a diagnosis is decided by, in one place. `tests/faults/thresholds.py` says which runs hold each.

None is sharp: what is stuck misses these limits by factors, and where a run is near one an experiment decides.
"""

# What an experiment has to show
STUCK = 0.05  # of the gap to the best that was reached: going on that closes less is stuck
CURED = 0.2  # of the gap: what a cure closes at least
RIVAL = 0.5  # of what the best rival's cure closes: less, and it is another cause
WORTH = 0.01  # of the loss, or of what training has gained: a gap that is worth closing
LEAST = 0.003  # of the loss: a gap below that is not worth closing, whatever training has gained
CHANCE = 1.5  # times the highest late loss above the mean: a fall below that may be one of going to and fro

# What a signature has to show
TENFOLD = 10.0  # "far": a step against the best one, a gradient against its clipped one, a loss against the start
HUNDREDFOLD = 100.0  # "of another order": scales of columns, curvatures, rates; updates that a momentum remembers
HALF = 0.5  # of units, of the loss of a constant output
TENTH = 0.1  # "nearly": of a floor, of the lowest validation loss, of the loss of a constant output
MOST = 0.8  # of activations: a layer that is saturated
OFTEN = 0.3  # of the times that the loss is measured it rises: it goes to and fro
LEARNT = 1e-3  # of the loss of a constant output: everything is learnt
SAME = 1e-6  # relative: two numbers that are the same but for rounding
STEP = 1.0  # by which an update may move each parameter: no learning rate that is larger is tried
