"""What the playground computes and shows.

In reading order: surfaces, optimizers, trajectory, formulas, plane, points, clock, pictures, texts; and controls, the
sliders. `playground.py` puts them into cells.
"""
