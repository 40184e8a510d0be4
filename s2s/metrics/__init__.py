"""How good an image is, in numbers: each metric in a file of its own, all of them together in s2s.metrics.score.

Metrics see arrays in dB (0 dB is full scale), the truth and the axes; never the name of a method.
"""
