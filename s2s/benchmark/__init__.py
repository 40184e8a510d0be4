"""Benchmarks that one command makes: methods are tuned, trained and fitted, judged on known truth, and written up."""
