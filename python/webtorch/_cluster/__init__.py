"""One model over several hosts: who takes part, the seal, exchanges between hosts, rounds.

It knows neither nginx nor the zone, so it runs in any process.
"""
