"""Judging denoisers: every one sees the same images, and every metric sees images without names.

>>> methods = functions(load_denoisers(["nlm", "srad"]))  # doctest: +SKIP
>>> evaluation = evaluate(methods, cases_of(Simulated(scenes=4)))  # doctest: +SKIP
>>> print(table(evaluation, verdict(evaluation)))  # doctest: +SKIP
"""
