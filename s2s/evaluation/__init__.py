"""Judging denoisers: every one sees the same images, and every metric sees images without names.

>>> evaluation = evaluate({"nlm": s2s.load("nlm").denoise_db}, cases("evaluation", frames=4))  # doctest: +SKIP
>>> print(table(evaluation))  # doctest: +SKIP
"""
